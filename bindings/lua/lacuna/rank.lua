--- lc.rank: parameters or layers in the order of a number, for choosing the most or the least of them.

local errors = require "lacuna.errors"

local measures = {
  weight_l1 = function(p) return p:abs():sum():item() end,
  weight_l2 = function(p) return p:norm():item() end,
  grad_l1 = function(p) return p.grad and p.grad:abs():sum():item() or 0 end,
  grad_l2 = function(p) return p.grad and p.grad:norm():item() or 0 end,
  size = function(p) return p:numel() end,
}

local ranking = { __name = "ranking" }
ranking.__index = ranking

function ranking:__tostring()
  local lines = {}
  for i, entry in ipairs(self) do lines[i] = ("%-12.6g %s"):format(entry.value, entry.name) end
  return table.concat(lines, "\n")
end

--- floor(share * n) things from one end: a share of 0 chooses none.
local function take(self, share, from_end)
  if type(share) ~= "number" or share < 0 or share > 1 then
    errors.fail("rank: a share is a number from 0 to 1, got %s", tostring(share))
  end
  local list, n = {}, #self
  for i = 1, math.floor(share * n) do list[i] = self[from_end and n + 1 - i or i].thing end
  return list
end

--- The things with the largest values, largest first: floor(share * n) of them.
function ranking:top(share)
  errors.receiver("rank:top", self, "ranking")
  return take(self, share, false)
end

--- The things with the smallest values, smallest first.
function ranking:bottom(share)
  errors.receiver("rank:bottom", self, "ranking")
  return take(self, share, true)
end

local function tensor_of(thing)
  local kind = errors.kind(thing)
  if kind == "a layer" then return thing.weight end
  if kind == "a tensor" then return thing end
  errors.fail("rank: expected layers or parameters, got %s", kind)
end

--- Whether one of the things has a gradient: without any, all would rank alike.
local function expect_gradients(things)
  for _, thing in ipairs(things) do
    if tensor_of(thing).grad then return end
  end
  errors.fail "rank: none of these has a gradient; call t:backward() or loss:backward() before"
end

--- Ranks things by a number, largest first; equal ones stay in their order.
---@param things any a selection or a list of parameters or layers
---@param by string|function "weight_l1", "weight_l2", "grad_l1", "grad_l2", "size", or function(thing) -> number
---@return table ranking with :top(share) and :bottom(share)
local function rank(things, by)
  local measure = by
  if type(by) == "string" then
    local known = measures[by]
    local names = {}
    for name in pairs(measures) do names[#names + 1] = name end
    table.sort(names)
    if not known then
      errors.fail("rank: no measure '%s'%s; there are %s, or give a function", by, errors.suggestion(by, names),
        table.concat(names, ", "))
    end
    measure = function(thing) return known(tensor_of(thing):detach()) end
    if by:find "^grad" then measure = function(thing) return known(tensor_of(thing)) end end
  elseif type(by) ~= "function" then
    errors.fail("rank: by must be the name of a measure or a function, got a %s", type(by))
  end
  local kind = errors.kind(things)
  if kind ~= "a table" and kind ~= "a selection" then
    errors.fail("rank: expected a selection or a list of layers or parameters, got %s", kind)
  end
  if type(by) == "string" and by:find "^grad" then expect_gradients(things) end
  local list = setmetatable({}, ranking)
  for i, thing in ipairs(things) do
    local value = measure(thing)
    if type(value) ~= "number" then errors.fail("rank: by must give numbers, got a %s", type(value)) end
    local name = errors.kind(thing) ~= "a table" and thing.name or tostring(i)
    if value ~= value then errors.fail("rank: the number of %s is NaN, which has no rank", name) end
    list[i] = { thing = thing, value = value, order = i, name = name }
  end
  table.sort(list, function(a, b) return a.value > b.value or a.value == b.value and a.order < b.order end)
  return list
end

return { rank = rank }
