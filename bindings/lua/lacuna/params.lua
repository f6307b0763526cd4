--- lc.params: declares the options of a recipe, with types from their defaults, and reads them from the command line.
--
--   local p = lc.params { model = "gpt2", steps = 100, lr = 2e-5, levels = { 0.3, 0.5 }, tune = true,
--                         help = { steps = "optimizer steps after each round" },
--                         choices = { model = { "gpt2", "gpt2-medium" } }, toy = { steps = 2 } }
--
-- An integer default takes integers, any other number takes numbers, true and false make a flag (--tune, --no-tune), a
-- list takes elements of its first one's type, separated by commas. `toy` holds the defaults under --toy; `help` a line
-- for each option; `choices` the words that a string, or each of a list, may be. The options of every recipe (--seed,
-- --threads, ...) are read here too, and naming one among the defaults sets it unless the command line did.

local errors = require "lacuna.errors"
local options = require "lacuna.options"

local reserved = { help = true, toy = true, choices = true }

local function sorted_keys(list)
  local keys = {}
  for key in pairs(list) do
    if type(key) ~= "string" or not key:find "^[%a][%w_]*$" then
      errors.fail("params: an option's name is letters, digits and _, got '%s'", tostring(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local function kind_of(name, value)
  local kind = math.type(value)
  if kind == "integer" then return { kind = "integer" } end
  if kind == "float" then return { kind = "number" } end
  if type(value) == "string" then return { kind = "text" } end
  if type(value) == "boolean" then return { kind = "flag" } end
  if type(value) == "table" and value[1] ~= nil and type(value[1]) ~= "table" then
    return { kind = "list", element = kind_of(name, value[1]) }
  end
  errors.fail("params: '%s' needs a default that is a number, string, boolean or list of those, got %s", name,
    type(value) == "table" and "a table without elements" or "a " .. type(value))
end

--- Lets the row's option be one of the words, or a list of them, and nothing else.
local function add_choices(row, words)
  local word = row.element or row
  if word.kind ~= "text" then
    errors.fail("params: '%s' has choices, so its default must be a string or a list of strings", row.name)
  end
  local count, good = 0, type(words) == "table"
  for _, choice in pairs(good and words or {}) do
    count, good = count + 1, good and type(choice) == "string"
    if good and row.element and choice:find(",", 1, true) then
      errors.fail("params: the choices of '%s' are separated by commas, so '%s' cannot be one", row.name, choice)
    end
  end
  if not good or count == 0 or count ~= #words then
    errors.fail("params: the choices of '%s' must be a list of strings", row.name)
  end
  word.kind, word.choices = "choice", words
end

--- Raises where a default, or one under --toy, is none of the option's choices.
local function check_defaults(rows, defaults)
  for _, row in ipairs(rows) do
    local word = row.element or row
    for _, given in ipairs { defaults[row.name], defaults.toy and defaults.toy[row.name] } do
      for _, value in ipairs(word.choices and (type(given) == "table" and given or { given }) or {}) do
        local _, problem = options.convert(word, tostring(value))
        if problem then errors.fail("params: the default of '%s' %s", row.name, problem) end
      end
    end
  end
end

local function is_common(name)
  return options.find(options.rows, name) ~= nil
end

--- Rows for the recipe's own options, in alphabetical order.
local function own_rows(defaults)
  local rows, help, choices = {}, defaults.help or {}, defaults.choices or {}
  for _, name in ipairs(sorted_keys(defaults)) do
    if not reserved[name] and not is_common(name) then
      local row = kind_of(name, defaults[name])
      row.name, row.doc = name, help[name]
      if choices[name] then add_choices(row, choices[name]) end
      rows[#rows + 1] = row
    end
  end
  return rows
end

local function check_names(what, names, defaults)
  for _, name in ipairs(sorted_keys(names)) do
    if defaults[name] == nil or reserved[name] then
      errors.fail("params: %s names '%s', which is no option%s", what, name,
        errors.suggestion(name, sorted_keys(defaults)))
    end
  end
end

local function show_default(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, element in ipairs(value) do parts[i] = tostring(element) end
  return table.concat(parts, ",")
end

--- The comment that a recipe's file begins with, as the first lines of its --help.
local function print_purpose()
  local file = options.recipe and io.open(options.recipe)
  if not file then return end
  for line in file:lines() do
    local text = line:match "^%-%-+%s?(.*)"
    if not text then break end
    print(text)
  end
  file:close()
  print()
end

local function print_help(rows, values)
  print_purpose()
  print(("usage: lacuna %s [options]\n"):format(options.recipe or "recipe.lua"))
  for _, row in ipairs(rows) do
    local line = options.describe(row)
    print(("%s%s(default %s)"):format(line, row.doc and " " or "", show_default(values[row.name])))
  end
  print "\nOf every recipe:"
  for _, row in ipairs(options.rows) do print(options.describe(row)) end
end

--- A mistake on the command line, not in the recipe: no line of the recipe in front.
local function refuse(problem)
  error(("%s: %s; see --help"):format(options.recipe or "params", problem), 0)
end

--- Sparsity is a share everywhere: 90 for 0.9 is better told now than hours into a run.
local function check_sparsity(name, value)
  if name ~= "sparsity" and name ~= "sparsities" then return end
  for _, share in ipairs(type(value) == "table" and value or { value }) do
    if math.type(share) and not (share >= 0 and share <= 1) then
      refuse(("option '--%s' takes shares from 0 to 1, got %g%s"):format(name, share,
        share > 1 and share <= 100 and ("; for %g%% write %g"):format(share, share / 100) or ""))
    end
  end
end

--- Reads the arguments; returns what they gave: name -> value.
local function read(arguments, rows)
  local given, wants_help, i = {}, false, 1
  while arguments[i] do
    local word = arguments[i]
    if word == "--help" or word == "-h" then
      wants_help, i = true, i + 1
    elseif word:sub(1, 2) ~= "--" then
      refuse(("unexpected argument '%s'"):format(word))
    else
      local row, value, after = options.read(rows, arguments, i)
      if not row then refuse(value) end
      check_sparsity(row.name, value)
      given[row.name], i = value, after
    end
  end
  return given, wants_help
end

--- A copy, so that a recipe that changes a list does not change what was declared.
local function copy(value)
  return type(value) == "table" and table.move(value, 1, #value, 1, {}) or value
end

local function with_names(values, rows)
  local names = {}
  for _, row in ipairs(rows) do names[#names + 1] = row.name end
  return setmetatable(values, {
    __name = "params",
    __index = function(_, name)
      if is_common(name) then return options.value[name] end
      errors.fail("params: no option '%s'%s", tostring(name), errors.suggestion(tostring(name), names))
    end,
    __tostring = function()
      local lines = {}
      for i, name in ipairs(names) do lines[i] = ("%s = %s"):format(name, show_default(values[name])) end
      return table.concat(lines, "\n")
    end,
  })
end

local params = {}

--- Declares a recipe's options and returns their values. Those of every recipe can be read from the result too
-- (p.seed, p.toy), nil when not given.
---@param defaults table name -> default; help = {name = a line for --help}; toy = {name = default under --toy};
-- choices = {name = list of the words that it may be}
---@param arguments string[]|nil what to read instead of the command line
---@return table values
function params.params(defaults, arguments)
  if type(defaults) ~= "table" then errors.fail("params: expected a table of defaults, got %s", type(defaults)) end
  errors.expect("params", "the arguments", arguments, "table", true)
  for _, word in ipairs(arguments or {}) do errors.expect("params", "each argument", word, "string") end
  for _, name in ipairs { "help", "toy", "choices" } do errors.expect("params", name, defaults[name], "table", true) end
  check_names("help", defaults.help or {}, defaults)
  check_names("toy", defaults.toy or {}, defaults)
  check_names("choices", defaults.choices or {}, defaults)
  for name, value in pairs(defaults.toy or {}) do
    if type(value) ~= type(defaults[name]) then
      errors.fail("params: toy has a %s for '%s', whose default is a %s", type(value), name, type(defaults[name]))
    end
  end
  for name in pairs(defaults.choices or {}) do
    if is_common(name) then errors.fail("params: '%s' is an option of every recipe: its choices are fixed", name) end
  end
  local rows = own_rows(defaults)
  check_defaults(rows, defaults)
  local all = table.move(options.rows, 1, #options.rows, #rows + 1, table.move(rows, 1, #rows, 1, {}))
  if not arguments then options.were_read = true end
  local given, wants_help = read(arguments or options.arguments or {}, all)

  local function value_of(name)
    if given[name] ~= nil then return given[name] end
    if is_common(name) and options.value[name] ~= nil then return options.value[name] end
    if reserved[name] then return nil end
    local toy = given.toy
    if toy == nil then toy = options.value.toy end
    if toy and defaults.toy and defaults.toy[name] ~= nil then return copy(defaults.toy[name]) end
    return copy(defaults[name])
  end

  local values = {}
  for _, row in ipairs(rows) do values[row.name] = value_of(row.name) end
  if wants_help then
    print_help(rows, values)
    os.exit(0, true)
  end
  for _, row in ipairs(options.rows) do
    local value = value_of(row.name)
    if value ~= nil and value ~= options.value[row.name] then options.apply(row.name, value) end
  end
  return with_names(values, rows)
end

return params
