--- The trained tensors behind what a person names: a selection, a layer, a parameter, a handle, or a list of those.

local core = require "lacuna.core.train"
local errors = require "lacuna.errors"

local function kind(thing)
  local metatable = getmetatable(thing)
  return type(metatable) == "table" and metatable.__name or type(thing)
end

local MAX_DEPTH = 100 -- of lists in lists: a list that contains itself has no end

local function add(thing, where, list, depth)
  local name = kind(thing)
  if depth > MAX_DEPTH then errors.fail("%s: lists are nested deeper than %d", where, MAX_DEPTH) end
  if name == "lacuna.tensor" then
    list[#list + 1] = thing
  elseif name == "lacuna.layer" then
    list[#list + 1] = thing.weight
    list[#list + 1] = thing.bias
  elseif name == "lacuna.selection" or name == "table" then
    for _, inner in ipairs(thing) do add(inner, where, list, depth + 1) end
  elseif name == "lacuna.method" then
    for _, leaf in ipairs(core.method_leaves(thing)) do list[#list + 1] = leaf end
  else
    errors.fail("%s: expected a selection, layers, parameters or a handle, got a %s", where, name)
  end
end

--- A list of tensors: a layer stands for its weight and bias, a handle for the tensors it trains.
---@param thing any
---@param where string begins the message when it is something else
---@return table tensors
return function(thing, where)
  local list = {}
  add(thing, where, list, 1)
  return list
end
