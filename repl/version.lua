--- What --version prints, and its first line for the prompt's greeting.

local system = require "lacuna.core.system"

--- Whether a program of that name is on the PATH.
local function installed(program)
  for directory in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    local file = io.open(directory .. "/" .. program)
    if file then
      file:close()
      return true
    end
  end
  return false
end

local function blas()
  local ok, info = pcall(system.blas)
  if not ok then return "none: " .. info end
  local reason = info.chosen and "chosen here" or info.preset and "the environment's choice" or "the library's choice"
  local own = info.products:match "^own (.*)"
  local products = own and ("; f32 products by Lacuna's %s kernel"):format(own) or ""
  return ("%s, kernels %s (%s)%s"):format(info.library, info.core, reason, products)
end

---@param style string|nil "short" for one line
---@return string
return function(style)
  local cpu, threads = system.cpu(), system.threads()
  if style == "short" then
    return ("Lacuna %s (%s, %d thread%s)"):format(system.version, _VERSION, threads, threads == 1 and "" or "s")
  end
  return table.concat({
    "Lacuna " .. system.version,
    "Lua       " .. system.lua_release,
    "BLAS      " .. blas(),
    "CPU       " .. cpu.model,
    "features  " .. (#cpu.features > 0 and table.concat(cpu.features, " ") or "none that kernels use"),
    "threads   " .. threads,
    "optional  gnuplot " .. (installed "gnuplot" and "found" or "missing (plots: apt-get install gnuplot-nox)"),
  }, "\n")
end
