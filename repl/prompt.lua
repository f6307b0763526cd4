--- The prompt: reads a chunk (over several lines when it is not complete), runs it, prints what an expression gives.
-- Globals may be made here; strictness is for files. Returns a function that gives the exit status.

local errors = require "lacuna.errors"
local terminal = require "lacuna.repl.terminal"

local about = [[
  EXPRESSION      prints its value; _ is the last one
  NAME = VALUE    makes a global; a line that begins with local does, too
  ?NAME, help(x)  what a name, a function or a value is
  :time CHUNK     runs it and prints how long it took
  Tab             completes fields, methods, options, file names
  Ctrl-C          drops the line, or stops what runs; what was made stays
  Ctrl-D, exit    leaves]]

--- Code for one chunk: an expression, else statements. A `local` at its beginning makes globals, because locals would
-- end with the line.
---@return function|nil chunk
---@return string|nil problem ends with "<eof>" when more lines are needed
local function compile(text)
  local chunk, expression_problem = load("return " .. text, "=prompt", "t")
  if chunk then return chunk end
  local global = text:gsub("^%s*local%s+function%s+", "function ")
  if not global:find "^%s*local%s+[%w_,%s]*<" then global = global:gsub("^%s*local%s+", "") end
  chunk = load(global, "=prompt", "t")
  if chunk then return chunk end
  local problem
  chunk, problem = load(text, "=prompt", "t")
  local near = not chunk and problem:match "unexpected symbol near '(.+)'$"
  if near and text:match "^%s*(.*)":sub(1, #near) == near then problem = expression_problem end -- it is no statement
  return chunk, problem
end

local function needs_more(problem)
  return problem:find("<eof>", 1, true) ~= nil
end

--- Reads on until the chunk is complete; no chunk when the user gave it up or it is wrong, which is then said.
---@return function|nil chunk
---@return string text all that was read
local function read_chunk(text)
  while true do
    local chunk, problem = compile(text)
    if chunk then return chunk, text end
    if not needs_more(problem) then
      print(problem)
      return nil, text
    end
    local line = terminal.read(">> ")
    if not line then return nil, text end
    text = text .. "\n" .. line
  end
end

--- Calls fn; Ctrl-C interrupts it, and an error is printed.
local function attempt(fn)
  local ok, problem = terminal.attempt(fn, errors.describe)
  if not ok then print(errors.summary(problem)) end
end

local function print_results(...)
  local count = select("#", ...)
  if count == 0 then return end
  local display = require "lacuna.repl.display"
  local texts = {}
  for i = 1, count do texts[i] = display((select(i, ...))) end
  print(table.concat(texts, "  "))
  if (...) ~= nil then _G._ = (...) end
end

--- Commands of the prompt itself: ":name argument".
local commands = {}

function commands.time(argument)
  local chunk = read_chunk(argument)
  if not chunk then return end
  attempt(function()
    local system = require "lacuna.core.system"
    local start = system.clock()
    local results = table.pack(chunk())
    local seconds = system.clock() - start
    print_results(table.unpack(results, 1, results.n))
    print(("%.6f s"):format(seconds))
  end)
end

local function run_command(line)
  local name, argument = line:match "^:%s*(%a*)%s*(.*)$"
  local command = commands[name]
  if command then return command(argument) end
  print(("unknown command ':%s'%s"):format(name, errors.suggestion(name, { "time" })))
end

--- help at the prompt; without an argument, what the prompt understands.
local function print_help(topic)
  if topic == nil then
    print(about)
  else
    print(require("lacuna.help").describe(topic))
  end
end

--- Whether the line is exit, quit, exit() or quit(), and no global has taken the name.
local function wants_to_leave(line)
  local word = line:match "^%s*(%a+)%s*%(?%s*%)?%s*$"
  return (word == "exit" or word == "quit") and rawget(_G, word) == nil
end

--- Reads and does one thing; false at the end.
local function step()
  local line = terminal.read "> "
  if line == nil or line and wants_to_leave(line) then return false end
  if not line or not line:find "%S" then return true end
  if line:find "^%s*:" then
    run_command(line)
  elseif line:find "^%s*%?" then
    local topic = line:match "^%s*%?%s*(.-)%s*$"
    attempt(function() print_help(topic ~= "" and topic or nil) end)
  else
    local chunk, text = read_chunk(line)
    line = text
    if chunk then attempt(function() print_results(chunk()) end) end
  end
  for each in line:gmatch "[^\n]+" do terminal.remember(each) end
  return true
end

local function history_path()
  local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
  if state and state ~= "" then return state .. "/lacuna_history" end
  return home and home .. "/.lacuna_history" or ""
end

return function()
  rawset(_G, "lc", require "lacuna")
  rawset(_G, "help", print_help)
  terminal.open(history_path(), require "lacuna.repl.complete")
  print(require "lacuna.repl.version"("short") .. "; help() says what the prompt understands")
  while step() do end
  terminal.close()
  print()
  return 0
end
