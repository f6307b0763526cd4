--- The options that hold for every recipe. They stand before the recipe's file on the command line, where the
-- interpreter reads them, or after it, where lc.params reads them among the recipe's own.
--
-- `options.value.seed` is nil unless the option was given (or a recipe's lc.params gave it a default).

local errors = require "lacuna.errors"

local options = { value = {}, were_read = false } -- were_read: whether lc.params has read those after the file

-- One row per option: kind is "text", "integer", "choice" or "flag" (takes no value).
options.rows = {
  { name = "device", kind = "choice", choices = { "cpu", "cuda" }, doc = "where tensors live" },
  { name = "threads", kind = "integer", min = 1, max = 256, doc = "CPU threads (default: the CPUs of this process)" },
  { name = "seed", kind = "integer", min = 0, doc = "of every random stream (default 0)" },
  { name = "dtype", kind = "choice", choices = { "f32", "f64" }, doc = "numbers that models compute in" },
  { name = "resume", kind = "flag", doc = "go on with the run that is in the output directory" },
  { name = "out", kind = "text", doc = "output directory of runs (default runs)" },
  { name = "toy", kind = "flag", doc = "a tiny model and text: any recipe in seconds" },
}

--- The row called `name`, or nil.
---@param rows table[]
---@param name string
function options.find(rows, name)
  for _, row in ipairs(rows) do
    if row.name == name then return row end
  end
end

local function number(row, text)
  local value = tonumber(text)
  if row.kind == "integer" then
    value = value and math.tointeger(value)
    if not value then return nil, ("expects an integer, got '%s'"):format(text) end
  else
    if not value then return nil, ("expects a number, got '%s'"):format(text) end
    value = value + 0.0
  end
  if row.min and value < row.min or row.max and value > row.max then
    local range = row.max and ("%d to %d"):format(row.min, row.max) or ("at least %d"):format(row.min)
    return nil, ("must be %s, got %s"):format(range, text)
  end
  return value
end

local function choice(row, text)
  for _, known in ipairs(row.choices) do
    if text == known then return text end
  end
  local advice = errors.suggestion(text, row.choices)
  return nil, ("must be one of %s, got '%s'%s"):format(table.concat(row.choices, ", "), text, advice)
end

--- The value that `text` stands for. A list is separated by commas; its elements are of `row.element`'s kind.
---@param row table
---@param text string
---@return any value, string|nil problem
function options.convert(row, text)
  if row.kind == "text" then return text end
  if row.kind == "choice" then return choice(row, text) end
  if row.kind == "flag" then
    if text == "true" then return true end
    if text == "false" then return false end
    return nil, ("expects true or false, got '%s'"):format(text)
  end
  if row.kind == "list" then
    local list = {}
    for part in text:gmatch "[^,]+" do
      local value, problem = options.convert(row.element, part)
      if problem then return nil, problem end
      list[#list + 1] = value
    end
    return list
  end
  return number(row, text)
end

--- As it is written on the command line.
local function spelled(row) return "--" .. row.name:gsub("_", "-") end

--- Reads one option of `arguments` at position i: "--name value", "--name=value", "--flag", "--no-flag".
---@param rows table[]
---@param arguments string[]
---@param i integer
---@return table|nil row nil with a problem when it cannot be read
---@return any value the value, or the problem
---@return integer|nil next position after it
function options.read(rows, arguments, i)
  local name, text = arguments[i]:match "^%-%-([^=]+)=(.*)$"
  name = (name or arguments[i]:match "^%-%-(.+)$" or ""):gsub("-", "_")
  local row = options.find(rows, name)
  if not row and not text then
    local flag = options.find(rows, name:match "^no_(.+)$")
    if flag and flag.kind == "flag" then return flag, false, i + 1 end
  end
  if not row then
    local names = {}
    for _, known in ipairs(rows) do names[#names + 1] = spelled(known) end
    local typed = arguments[i]:match "^[^=]+"
    return nil, ("unknown option '%s'%s"):format(typed, errors.suggestion(typed, names))
  end
  local after = i + 1
  if not text then
    if row.kind == "flag" then return row, true, after end
    text, after = arguments[i + 1], i + 2
    if not text then return nil, ("option '%s' needs a value"):format(spelled(row)) end
  end
  local value, problem = options.convert(row, text)
  if problem then return nil, ("option '%s' %s"):format(spelled(row), problem) end
  return row, value, after
end

--- The first of these options that stands after the recipe's file where nothing has read it, or nil.
---@return string|nil as it was typed
function options.unread()
  for _, word in ipairs(not options.were_read and options.arguments or {}) do
    local name = word:match "^%-%-([%w_-]+)"
    if name and options.find(options.rows, (name:gsub("-", "_"))) then return word end
  end
end

--- Takes a value into use: later calls of the library read it from options.value.
---@param name string
---@param value any
function options.apply(name, value)
  if name == "device" and value ~= "cpu" then
    errors.fail("--device %s: this build has kernels for cpu alone", value)
  end
  options.value[name] = value
  if name == "threads" then
    require("lacuna.core.system").threads(value)
  elseif name == "seed" then
    require("lacuna.core.random").seed(value)
  elseif name == "blas_kernels" then
    require("lacuna.core.system").keep_blas_kernels(value == "env")
  end
end

--- One line of a --help listing.
---@param row table
---@return string
function options.describe(row)
  local word = row.element or row
  local argument = row.kind == "flag" and "" or " " .. row.kind:upper()
  if word.choices then argument = " " .. table.concat(word.choices, "|") .. (row.element and ",..." or "") end
  return ("  %-28s %s"):format(spelled(row) .. argument, row.doc or "")
end

return options
