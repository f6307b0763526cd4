--- help(x): what a name, a function or a value is. C functions are described by their rows (lacuna.core.docs),
-- functions written in Lua by the comment above them.

local errors = require "lacuna.errors"

local help = {}

local LUA_FUNCTION = "a function of Lua's own library"

--- name -> {signature, text, options}: "zeros" is lc.zeros, "tensor:matmul" a method.
local function rows()
  return require "lacuna.core.docs"
end

local function option_line(option)
  local kind = option.choices or option.kind
  local default = option.required and " (required)" or option.default and (" (default %s)"):format(option.default) or ""
  return ("  %-14s %-9s %s%s"):format(option.name, kind, option.doc or "", default)
end

local function describe_row(row)
  local lines = { row.signature, row.text }
  for _, option in ipairs(row.options or {}) do lines[#lines + 1] = option_line(option) end
  return table.concat(lines, "\n")
end

--- The lines of the file that a Lua function was written in, or nil: embedded files, then files on disk.
local function source_lines(info)
  local text = require "lacuna.repl.source"(info.short_src)
  if not text and info.source:sub(1, 1) == "@" then
    local file = io.open(info.source:sub(2))
    if not file then return nil end
    text = file:read "a"
    file:close()
  end
  if not text then return nil end
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return lines
end

--- The methods of a type that is written in Lua, or nil; a step is called t in recipes.
local function lua_methods(type_name)
  local home = ({ run = "run", step = "steps", t = "steps" })[type_name]
  return home and require("lacuna." .. home).methods
end

--- What a Lua function is called with, and the comment above it. `name` is what the user calls it; without one the
--- first line of its source is given.
local function describe_function(fn, name)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return nil end
  local lines = source_lines(info)
  if not lines or not lines[info.linedefined] then return nil end
  local first = info.linedefined
  while lines[first - 1] and lines[first - 1]:find "^%s*%-%-" do first = first - 1 end
  local head = lines[info.linedefined]:match "^%s*(.-)%s*$"
  local arguments = name and head:match "%b()"
  if arguments and name:find ":" then arguments = arguments:gsub("^%([%w_]+,? ?", "(") end -- the receiver
  local result = { arguments and name .. arguments or head }
  for i = first, info.linedefined - 1 do
    result[#result + 1] = "  " .. lines[i]:match("^%s*%-+%s?(.*)"):gsub("^@param ", "  "):gsub("^@return", "returns")
  end
  return table.concat(result, "\n")
end

--- The documented methods of a type, in order: those of "lacuna.mask" are the rows "mask:hold", ...
---@param type_name string
---@return string[]
function help.methods(type_name)
  local prefix = type_name:gsub("^lacuna%.", "") .. ":"
  local list = {}
  for key in pairs(rows()) do
    if key:sub(1, #prefix) == prefix then list[#list + 1] = key:sub(#prefix + 1) end
  end
  for name in pairs(lua_methods(type_name) or {}) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function in_lines(words, width)
  local lines, line = {}, " "
  for _, word in ipairs(words) do
    if #line + #word + 1 > width then lines[#lines + 1], line = line, " " end
    line = line .. " " .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

--- The signatures of the functions in a module of the library, and of the methods of the type of that name: "mask" is
-- lc.mask and what mask:hold() is called on. Nil where there are none; tensors have too many.
local function describe_group(name)
  local list = {}
  for key, row in pairs(rows()) do
    if key:match "^([%w_]+)[.:]" == name then list[#list + 1] = row.signature end
  end
  table.sort(list)
  return #list > 0 and #list < 50 and table.concat(list, "\n") or nil
end

--- "a table with kl, mse": the names of its functions, if it has any.
local function describe_table(value)
  local names = {}
  for name, field in next, value do
    if type(name) == "string" and type(field) == "function" then names[#names + 1] = name end
  end
  table.sort(names)
  return "a table" .. (#names > 0 and " with " .. table.concat(names, ", ") or "")
end

--- The library itself: its names, and how to ask further.
local function describe_library(value, sections)
  local lines = { tostring(value) }
  for _, section in ipairs(sections) do
    lines[#lines + 1] = section[1] .. ":"
    lines[#lines + 1] = in_lines(section[2], 80)
  end
  return table.concat(lines, "\n")
end

local function describe_value(value)
  local meta = debug.getmetatable(value)
  if meta and meta.__sections then return describe_library(value, meta.__sections()) end
  local type_name = meta and meta.__name or type(value)
  local methods = help.methods(type_name)
  local text = "a " .. type_name:gsub("^lacuna%.", "")
  if text == "a table" then return describe_table(value) end
  if #methods == 0 then return text end
  text = text .. "; methods:\n" .. in_lines(methods, 80)
  return type_name ~= "lacuna.tensor" and text or text .. "\n  x:add_(y) and the like write into x itself"
end

--- Follows "a.b.c" or "a.b:c" from the globals and the library; nil when it leads nowhere.
local function follow(path)
  local value = _G
  for name in path:gmatch "[^.:]+" do
    local ok, field = pcall(function() return value[name] end)
    if value == _G and name == "lc" then ok, field = true, require "lacuna" end
    if not ok or field == nil then return nil end
    value = field
  end
  return value
end

--- The method of a type, or nil: its metatable's __index is the table of methods, or a function that looks there first.
local function method_of(type_name, name)
  local meta = debug.getregistry()["lacuna." .. type_name]
  local methods = meta and meta.__index
  if type(methods) == "function" then methods = select(2, debug.getupvalue(methods, 1)) end
  return type(methods) == "table" and rawget(methods, name) or nil
end

--- The row of a function of C, found by comparing it with the library's; x:add_ is described with x:add.
local function row_of(fn)
  for key, row in pairs(rows()) do
    local type_name, name = key:match "^(.*):(.*)$"
    if name then
      if method_of(type_name, name) == fn or method_of(type_name, name .. "_") == fn then return row end
    elseif follow("lc." .. key) == fn then
      return row
    end
  end
end

local function describe_name(name)
  local key = name:gsub("^lc%.", "")
  local value = follow(name) or follow("lc." .. name)
  local type_name, method = key:match "^(%w+):(%w+)$"
  if not value and lua_methods(type_name) then value = lua_methods(type_name)[method] end
  local row = rows()[key] or type(value) == "function" and row_of(value)
  local text = row and describe_row(row) or type(value) == "function" and describe_function(value, name) or nil
  local group = describe_group(key) -- lc.model makes what model:loss is called on
  if text or group then return (text or "") .. (text and group and "\n\n" or "") .. (group or "") end
  if type(value) == "function" then return LUA_FUNCTION end
  if value ~= nil then return describe_value(value) end
  local names = {}
  for known in pairs(rows()) do
    names[#names + 1] = known
    names[#names + 1] = known:match "^([%w_]+)[.:]" -- a module or a type; the same name again does no harm
  end
  return ("nothing is known of '%s'%s"):format(name, errors.suggestion(key, names))
end

--- What `topic` is, as text: a name such as "lc.prune.magnitude", "lc.mask" or "tensor:matmul", or any value.
---@param topic any
---@return string
function help.describe(topic)
  if type(topic) == "string" then return describe_name(topic) end
  if type(topic) ~= "function" then return describe_value(topic) end
  local row = row_of(topic)
  return row and describe_row(row) or describe_function(topic) or LUA_FUNCTION
end

return help
