--- What Tab completes: file names inside a string, option names inside a call's { }, else names, fields and methods.
-- Nothing is called to find out: a chain such as a.b.c is followed by its fields only.

local help = require "lacuna.help"
local terminal = require "lacuna.repl.terminal"

local keywords = {
  "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not",
  "or", "repeat", "return", "then", "true", "until", "while",
}

--- The names that can follow a value: keys of a table and of its metatable's __index table, documented methods.
local function names_of(value)
  local names, seen = {}, {}
  local function add(name)
    if type(name) == "string" and name:find "^[%a_][%w_]*$" and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  local function add_keys(list)
    if type(list) == "table" then
      for name in next, list do add(name) end
    end
  end
  local meta = debug.getmetatable(value)
  add_keys(value)
  if meta then
    add_keys(rawget(meta, "__index"))
    for _, name in ipairs(meta.__names and meta.__names() or {}) do add(name) end
    for _, name in ipairs(help.methods(meta.__name or "")) do add(name) end
  end
  return names
end

--- Follows "a.b:c" from the globals without calling anything; nil when a step is missing.
local function follow(chain)
  local value = _G
  for name in chain:gmatch "[%a_][%w_]*" do
    local ok, field = pcall(function() return value[name] end)
    if not ok then return nil end
    value = field
  end
  return value
end

--- The quote and the text of a string that is still open at the end of `line`; nil when none is.
local function open_string(line)
  local quote, start
  local i = 1
  while i <= #line do
    local c = line:sub(i, i)
    if quote then
      if c == "\\" then
        i = i + 1
      elseif c == quote then
        quote = nil
      end
    elseif c == '"' or c == "'" then
      quote, start = c, i + 1
    end
    i = i + 1
  end
  return quote and line:sub(start)
end

local function file_candidates(text)
  local directory, prefix = text:match "^(.*/)([^/]*)$"
  return terminal.files(directory or "."), prefix or text
end

--- The function whose call's table constructor is open at the end of `line`, as text: "lc.prune.magnitude".
local function open_call(line)
  local depth = 0
  for i = #line, 1, -1 do
    local c = line:sub(i, i)
    if c == "}" or c == ")" then
      depth = depth + 1
    elseif c == "{" or c == "(" then
      depth = depth - 1
      if depth < 0 then
        local name = line:sub(1, i - 1):match "([%a_][%w_.:]*)%s*$"
        if name then return name end
        depth = 0
      end
    end
  end
end

local function option_candidates(line)
  local call = open_call(line:match "^(.*[{,]%s*)[%a_]*[%w_]*$" or "")
  if not call then return nil end
  local documents = require "lacuna.core.docs"
  local row = documents[call:gsub("^lc%.", "")] or documents["tensor:" .. (call:match ":([%w_]+)$" or "")]
  local names = {}
  for _, option in ipairs(row and row.options or {}) do names[#names + 1] = option.name .. " = " end
  return #names > 0 and names or nil
end

local function name_candidates(line)
  local chain, prefix = line:match "([%a_][%w_.:]*)[.:]([%w_]*)$"
  if chain then return names_of(follow(chain)), prefix end
  prefix = line:match "[%a_][%w_]*$" or ""
  local options = option_candidates(line)
  if options then return options, prefix end
  local names = names_of(_G)
  return table.move(keywords, 1, #keywords, #names + 1, names), prefix
end

--- What all of `words` begin with.
local function common_beginning(words)
  local common = words[1]
  for _, word in ipairs(words) do
    while word:sub(1, #common) ~= common do common = common:sub(1, -2) end
  end
  return common
end

local function in_columns(words, width)
  local longest = 0
  for _, word in ipairs(words) do longest = math.max(longest, #word) end
  local columns = math.max(1, width // (longest + 2))
  local lines = {}
  for i, word in ipairs(words) do
    local row = (i - 1) // columns + 1
    lines[row] = (lines[row] or "") .. ("%-" .. longest + 2 .. "s"):format(word)
  end
  for i, text in ipairs(lines) do lines[i] = text:gsub("%s+$", "") end
  return table.concat(lines, "\n")
end

--- For the line editor.
---@param line string what stands before the cursor
---@return string|nil insert text to put at the cursor
---@return string|nil list what to show when several continue it
return function(line)
  local inside = open_string(line)
  local candidates, prefix
  if inside then
    candidates, prefix = file_candidates(inside)
  else
    candidates, prefix = name_candidates(line)
  end
  local words = {}
  for _, word in ipairs(candidates) do
    if word:sub(1, #prefix) == prefix then words[#words + 1] = word end
  end
  if #words == 0 then return nil end
  table.sort(words)
  local more = common_beginning(words):sub(#prefix + 1)
  if more ~= "" or #words == 1 then return more end
  return nil, in_columns(words, terminal.width())
end
