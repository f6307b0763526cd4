--- The command line: `lacuna [interpreter options] recipe.lua [recipe options]`, `lacuna -e CODE`, or a prompt.
-- Returns a function of argv (argv[0] is the program) that gives the exit status: 0, 1 after an error, 2 for a wrong
-- command line, 130 when interrupted.

local options = require "lacuna.options"
local errors = require "lacuna.errors"
local files = require "lacuna.core.files"

local own_rows = {
  { name = "blas_kernels", kind = "choice", choices = { "auto", "env" },
    doc = "env: keep OPENBLAS_CORETYPE as the environment sets it" },
  { name = "traceback", kind = "flag", doc = "print where an error was raised, call by call" },
  { name = "version", kind = "flag", doc = "print versions, CPU, BLAS and optional parts; also -v" },
  { name = "help", kind = "flag", doc = "print this; also -h" },
}

local usage = [[
usage: lacuna [options] recipe.lua [recipe options]
       lacuna [options] -e CODE
       lacuna [options]                 a prompt

  -e CODE                      run CODE, where lc is the library; may be given more than once
  -i                           a prompt after the recipe or CODE
  -                            read the recipe from standard input]]

local short = { ["-v"] = "--version", ["-h"] = "--help" }

local function all_rows()
  local rows = table.move(options.rows, 1, #options.rows, 1, {})
  return table.move(own_rows, 1, #own_rows, #rows + 1, rows)
end

local function print_help()
  print(usage)
  for _, row in ipairs(all_rows()) do print(options.describe(row)) end
  print "\nOptions after the recipe are the recipe's: lacuna recipe.lua --help lists them."
end

--- Reads the interpreter's options; `script` is the position of the recipe's file, nil when there is none.
local function parse(argv)
  local command = { code = {}, given = {} }
  local rows, i = all_rows(), 1
  while argv[i] do
    local word = short[argv[i]] or argv[i]
    if word == "-" or word:sub(1, 1) ~= "-" then
      command.script = i
      break
    elseif word == "-e" then
      if not argv[i + 1] then return nil, "option '-e' needs a value" end
      table.insert(command.code, argv[i + 1])
      i = i + 2
    elseif word == "-i" then
      command.interactive = true
      i = i + 1
    else
      local row, value, after = options.read(rows, { [i] = word, [i + 1] = argv[i + 1] }, i)
      if not row then return nil, value end
      command.given[row.name] = value
      i = after
    end
  end
  return command
end

local function report(message)
  io.stderr:write("lacuna: ", message, "\n")
end

--- Runs fn() and prints its error; returns the exit status.
local function run(fn)
  local ok, problem = xpcall(fn, errors.describe)
  if ok then return 0 end
  report(errors.summary(problem))
  return problem == "interrupted" and 130 or 1
end

--- What a recipe's own chunk sees as globals: those that exist. Reading or making any other is an error.
local function strict_environment()
  local function candidates()
    local names = {}
    for name in pairs(_G) do names[#names + 1] = name end
    local i = 1
    while true do -- the locals of the function that made the slip
      local name = debug.getlocal(4, i)
      if not name then return names end
      names[#names + 1] = name
      i = i + 1
    end
  end
  local function undeclared(name)
    name = tostring(name)
    local advice = errors.suggestion(name, candidates())
    return ("undeclared variable '%s'%s"):format(name, advice)
  end
  return setmetatable({}, {
    __index = function(_, name)
      local value = _G[name]
      if value == nil then error(undeclared(name), 2) end
      return value
    end,
    __newindex = function(_, name, value)
      if _G[name] == nil then
        error(("assignment to undeclared variable '%s': write 'local' before it"):format(tostring(name)), 2)
      end
      _G[name] = value
    end,
  })
end

--- What the code of -e sees as globals: all that there are, and the library as lc, as at the prompt.
local code_environment = setmetatable({}, {
  __index = function(_, name)
    local value = _G[name]
    if value == nil and name == "lc" then return require "lacuna" end
    return value
  end,
  __newindex = _G,
})

local function run_code(list)
  for _, code in ipairs(list) do
    local status = run(function()
      local chunk, problem = load(code, "=(command line)", "t", code_environment)
      if not chunk then error(problem, 0) end
      chunk()
    end)
    if status ~= 0 then return status end
  end
  return 0
end

--- The recipe in a file, or on standard input (nil). Its first line may be one for the shell.
local function load_recipe(file)
  if not file then return loadfile(nil, "t", strict_environment()) end
  local text = files.read(file)
  if not text then return nil, ("cannot open %s: No such file or directory"):format(file) end
  return load(text:gsub("^\xEF\xBB\xBF", ""):gsub("^#[^\n]*", ""), "@" .. file, "t", strict_environment())
end

--- Runs a recipe's file; "-" is standard input.
local function run_recipe(path, arguments)
  local file = path ~= "-" and path or nil
  options.recipe, options.arguments = file, arguments
  local directory = file and file:match "^(.*)/"
  if directory then package.path = package.path .. ";" .. directory .. "/?.lua" end
  return run(function()
    local chunk, problem = load_recipe(file)
    if not chunk then error(problem, 0) end
    chunk(table.unpack(arguments))
  end)
end

--- The table `arg`, as Lua's own interpreter makes it: the recipe at 0, its options from 1, what stood before below 0.
local function argument_table(argv, script)
  local list, zero = {}, script or 0
  for i = 0, #argv do list[i - zero] = argv[i] end
  return list
end

--- Runs what the command line names; returns the exit status.
local function execute(command, argv)
  local status = run_code(command.code)
  if status == 0 and command.script then
    status = run_recipe(argv[command.script], table.move(argv, command.script + 1, #argv, 1, {}))
  end
  if command.interactive then return require "lacuna.repl.prompt"() end
  if #command.code > 0 or command.script then return status end
  if require("lacuna.repl.terminal").is_terminal() then return require "lacuna.repl.prompt"() end
  return run_recipe("-", {})
end

return function(argv)
  local command, problem = parse(argv)
  if not command then
    report(problem .. "; see lacuna --help")
    return 2
  end
  if command.given.help then
    print_help()
    return 0
  end
  arg = argument_table(argv, command.script)
  errors.always_trace = command.given.traceback
  local status = run(function()
    for name, value in pairs(command.given) do options.apply(name, value) end
    if command.given.version then print(require "lacuna.repl.version"()) end
  end)
  if status ~= 0 or command.given.version then return status end
  return execute(command, argv)
end
