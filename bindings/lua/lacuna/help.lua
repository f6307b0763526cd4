--- help(x): what a name, a function or a value is. C functions are described by their rows (lacuna.core.docs),
-- functions written in Lua by the comment above them.

local errors = require "lacuna.errors"

local documents -- name -> {signature, text, options}; "zeros" is lc.zeros, "tensor:matmul" a method

local function open_documents()
  documents = documents or require "lacuna.core.docs"
  return documents
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

--- The comment above a Lua function and its first line.
local function describe_function(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return nil end
  local lines = source_lines(info)
  if not lines or not lines[info.linedefined] then return nil end
  local first = info.linedefined
  while lines[first - 1] and lines[first - 1]:find "^%s*%-%-" do first = first - 1 end
  local result = { (lines[info.linedefined]:match "^%s*(.-)%s*$") }
  for i = first, info.linedefined - 1 do
    result[#result + 1] = "  " .. lines[i]:match("^%s*%-+%s?(.*)"):gsub("^@", "")
  end
  return table.concat(result, "\n")
end

--- Methods of a value whose metatable has a table of them.
local function describe_value(value)
  local meta = debug.getmetatable(value)
  local kind = meta and meta.__name or type(value)
  local name = kind:gsub("^lacuna%.", "")
  local methods = {}
  for key in pairs(open_documents()) do
    local method = key:match("^" .. name .. ":(.+)$")
    if method then methods[#methods + 1] = method end
  end
  table.sort(methods)
  local text = "a " .. name
  if #methods > 0 then text = text .. "; methods:\n  " .. table.concat(methods, " ") end
  return text
end

--- Follows "a.b.c" or "a.b:c" from the globals; nil when it leads nowhere.
local function follow(path)
  local value = _G
  for name in path:gmatch "[^.:]+" do
    local ok, field = pcall(function() return value[name] end)
    if not ok or field == nil then return nil end
    value = field
  end
  return value
end

local function describe_name(name)
  local key = name:gsub("^lc%.", "")
  local rows = open_documents()
  if rows[key] then return describe_row(rows[key]) end
  local value = follow(name) or follow("lc." .. name)
  if value ~= nil then
    local row
    local method = name:match "[:.]([%a_][%w_]*)$"
    if type(value) == "function" and method then row = rows["tensor:" .. method] end
    return row and describe_row(row) or type(value) == "function" and describe_function(value) or describe_value(value)
  end
  local names = {}
  for known in pairs(rows) do names[#names + 1] = known end
  return ("nothing is known of '%s'%s"):format(name, errors.suggestion(key, names))
end

--- What `topic` is, as text: a name such as "lc.prune.magnitude" or "tensor:matmul", or any value.
---@param topic any
---@return string
return function(topic)
  if type(topic) == "string" then return describe_name(topic) end
  if type(topic) == "function" then
    return describe_function(topic) or "a function of C; ask by its name: help \"lc.zeros\""
  end
  return describe_value(topic)
end
