--- Plain Lua data as JSON text and back, exactly: what goes in comes out, integers as integers, floats bit for bit.
--
-- A table is a list (keys 1..n) or an object (string keys). Infinities and NaN are {"$number": "inf"}; a tensor is
-- {"$tensor": i}, the i-th of a list of tensors that the caller stores beside the text. Keys are sorted, so that equal
-- data is equal text.

local core = require "lacuna.core.json"
local errors = require "lacuna.errors"

local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quote(text, where)
  if not utf8.len(text) or text:find "\0" then
    errors.fail("%s: a stored string must be UTF-8 without NUL bytes", where)
  end
  return '"' .. text:gsub('[%c"\\]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

--- The shortest decimal form that reads back as the same number.
local function number(x)
  if math.type(x) == "integer" then return ("%d"):format(x) end
  if x ~= x then return '{"$number":"nan"}' end
  if x == math.huge then return '{"$number":"inf"}' end
  if x == -math.huge then return '{"$number":"-inf"}' end
  local text
  for digits = 15, 17 do
    text = ("%." .. digits .. "g"):format(x)
    if tonumber(text) == x then break end
  end
  return text:find "[.e]" and text or text .. ".0"
end

local encode -- (value, where, context): context is {tensors, inside, depth}; depth is nil for compact text

--- "[" .. parts .. "]", on one line or indented.
local function enclose(parts, opening, closing, depth)
  if not depth or #parts == 0 then return opening .. table.concat(parts, ",") .. closing end
  local margin = "\n" .. ("  "):rep(depth)
  return opening .. margin .. "  " .. table.concat(parts, "," .. margin .. "  ") .. margin .. closing
end

local function encode_list(list, where, context, depth)
  local parts = {}
  for i = 1, #list do parts[i] = encode(list[i], ("%s[%d]"):format(where, i), context) end
  return enclose(parts, "[", "]", depth)
end

local MAX_DEPTH = 100 -- the reader takes 128, and what is stored here gets a few levels around it

local function encode_object(object, where, context, depth)
  local keys, parts = {}, {}
  for key in pairs(object) do
    if type(key) ~= "string" then
      errors.fail("%s: a stored table has string keys, or is a list 1..n; got the key %s", where, tostring(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  local colon = depth and ": " or ":"
  for i, key in ipairs(keys) do
    parts[i] = quote(key, where) .. colon .. encode(object[key], where .. "." .. key, context)
  end
  return enclose(parts, "{", "}", depth)
end

local function encode_table(value, where, context)
  if context.inside[value] then errors.fail("%s: a table that contains itself cannot be stored", where) end
  if context.level == MAX_DEPTH then
    errors.fail("%s...: tables nested deeper than %d cannot be stored", where:sub(1, 40), MAX_DEPTH)
  end
  local count, depth = 0, context.depth
  for _ in pairs(value) do count = count + 1 end
  local form = count > 0 and count == #value and encode_list or encode_object
  context.inside[value], context.depth, context.level = true, depth and depth + 1, context.level + 1
  local text = form(value, where, context, depth)
  context.inside[value], context.depth, context.level = nil, depth, context.level - 1
  return text
end

function encode(value, where, context)
  local kind = type(value)
  if kind == "nil" then return "null" end
  if kind == "boolean" then return tostring(value) end
  if kind == "number" then return number(value) end
  if kind == "string" then return quote(value, where) end
  if kind == "table" then return encode_table(value, where, context) end
  local metatable, tensors = getmetatable(value), context.tensors
  if tensors and metatable and metatable.__name == "lacuna.tensor" then
    tensors[#tensors + 1] = value
    return ('{"$tensor":%d}'):format(#tensors)
  end
  errors.fail("%s: cannot be stored: a %s; plain data%s can", where, metatable and metatable.__name or kind,
    tensors and " and tensors" or "")
end

--- JSON text of a value.
---@param value any plain data; tensors too when `tensors` is given
---@param where string begins error messages: "run.state"
---@param tensors table|nil the tensors inside are added to this list
---@return string
function json.encode(value, where, tensors)
  return encode(value, where, { tensors = tensors, inside = {}, level = 0 })
end

--- The same of plain data, indented for people, with a newline at its end.
---@param value any
---@param where string begins error messages
---@return string
function json.pretty(value, where)
  return encode(value, where, { inside = {}, depth = 0, level = 0 }) .. "\n"
end

local function restore(value, tensors)
  if type(value) ~= "table" then return value end
  local special = value["$number"]
  if special then return special == "nan" and math.abs(0 / 0) or special == "inf" and math.huge or -math.huge end
  if value["$tensor"] then return tensors and tensors[value["$tensor"]] end
  for key, inner in pairs(value) do value[key] = restore(inner, tensors) end
  return value
end

--- The value that json.encode wrote.
---@param text string
---@param where string begins error messages
---@param tensors table|nil the tensors that it names
function json.decode(text, where, tensors)
  return restore(core.decode(text, where), tensors)
end

return json
