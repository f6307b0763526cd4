--- Runs the interpreter under test as a person would, and catches what it prints.

local temporary = dofile "tests/temporary.lua"
local cli = { program = os.getenv "LACUNA" or "build/lacuna" }

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  os.remove(path)
  return text
end

--- Runs a shell command; standard input is empty unless the command says otherwise.
---@param command string
---@return table {out, err, status}; a signal gives status 128 + its number, as in a shell
function cli.shell(command)
  local out, err = temporary(), temporary()
  local _, how, code = os.execute(("{ %s\n} >%s 2>%s </dev/null"):format(command, out, err))
  return { out = read(out), err = read(err), status = how == "signal" and 128 + code or code }
end

--- Runs `lacuna ARGUMENTS`.
---@param arguments string
function cli.run(arguments)
  return cli.shell(cli.program .. " " .. arguments)
end

--- Runs text as a recipe in a file of its own; result.path is that file's name.
---@param text string
---@param after string|nil options after the file
---@param before string|nil options before it
function cli.recipe(text, after, before)
  local path = temporary()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  local result = cli.run(("%s %s %s"):format(before or "", path, after or ""))
  result.path = path
  os.remove(path)
  return result
end

return cli
