--- How the prompt shows a value: what prints itself does so; a string is quoted; a plain table shows its first entries,
-- and those of the tables in it, down to the third level.

local ENTRIES = 20 -- of a table; fewer the deeper it lies
local LEVELS = 3

local function show_key(key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return key end
  return ("[%s]"):format(type(key) == "string" and ("%q"):format(key) or tostring(key))
end

local function show_leaf(value)
  if type(value) == "string" then return (("%q"):format(value):gsub("\\\n", "\\n")) end
  if value ~= value then return "nan" end -- without the sign that processors give it
  return tostring(value)
end

local function by_text(a, b)
  return tostring(a) < tostring(b)
end

local function is_plain(value)
  local meta = debug.getmetatable(value)
  return type(value) == "table" and not (meta and (meta.__tostring or meta.__name))
end

local function show_table(list, level)
  local parts, most = {}, ENTRIES // (level * level)
  local function show(value)
    if not is_plain(value) then return show_leaf(value) end
    if level < LEVELS then return show_table(value, level + 1) end
    return next(value) == nil and "{}" or "{ ... }"
  end
  for i = 1, math.min(#list, most) do parts[i] = show(list[i]) end
  local keys = {}
  for key in next, list do
    if not (math.type(key) == "integer" and key >= 1 and key <= #list) then keys[#keys + 1] = key end
  end
  table.sort(keys, by_text)
  for i = 1, math.min(#keys, most - #parts) do
    parts[#parts + 1] = show_key(keys[i]) .. " = " .. show(list[keys[i]])
  end
  local more = #list + #keys - #parts
  if more > 0 then parts[#parts + 1] = ("... %d more"):format(more) end
  return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

---@param value any
---@return string
return function(value)
  return is_plain(value) and show_table(value, 1) or show_leaf(value)
end
