--- temporary(ending) -> a path that nobody uses, in a directory of this process's own. The directory is removed when
-- the process ends, with all that was made in it.

if package.loaded["tests.temporary"] then return package.loaded["tests.temporary"] end

local folder, count = nil, 0

local function new_folder()
  local name = os.tmpname() -- always in /tmp
  os.remove(name)
  local path = ("%s/lacuna_%s"):format(os.getenv "TMPDIR" or "/tmp", name:match "[^_/]*$")
  require("lacuna.core.files").make_dirs(path)
  return setmetatable({ path = path }, { __gc = function() os.execute("rm -rf " .. path) end })
end

---@param ending string|nil
local function temporary(ending)
  folder = folder or new_folder()
  count = count + 1
  return ("%s/%d%s"):format(folder.path, count, ending or "")
end

package.loaded["tests.temporary"] = temporary -- else the folder goes when its spec's last use of this function is over
return temporary
