--- What --version prints, and its first line for the prompt's greeting.

local system = require "lacuna.core.system"

local function optional_parts()
  local parts = {}
  for _, part in ipairs(system.optional()) do
    parts[#parts + 1] = ("%s (%s)"):format(part.name, part.present and "found" or part.missing)
  end
  return table.concat(parts, ", ")
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
    "BLAS      " .. system.blas(),
    "CPU       " .. cpu.model,
    "features  " .. (#cpu.features > 0 and table.concat(cpu.features, " ") or "none that kernels use"),
    "threads   " .. threads,
    "optional  " .. optional_parts(),
  }, "\n")
end
