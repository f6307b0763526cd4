--- manifest.json: what was run and where, so that a result can be told from another and a resumed run is the same run.

local errors = require "lacuna.errors"
local files = require "lacuna.core.files"
local json = require "lacuna.json"
local options = require "lacuna.options"
local random = require "lacuna.core.random"
local system = require "lacuna.core.system"

local FORMAT = 1

local manifest = {}

local function recipe()
  local path = options.recipe
  local text = path and files.read(path) or ""
  return { file = path and path:match "[^/]*$" or "", hash = files.hash(text), text = text }
end

local function copy(params)
  local values = {}
  for name, value in pairs(params or {}) do values[name] = value end
  return values
end

local function blas()
  local ok, info = pcall(system.blas)
  return ok and { library = info.library, kernels = info.core, products = info.products } or { library = "none" }
end

--- The options of every recipe that decide its numbers.
local function common()
  local value = options.value
  return { toy = value.toy or false, dtype = value.dtype or "f32", device = value.device or "cpu" }
end

local function present(name, params)
  return {
    lacuna_format = FORMAT, name = name, recipe = recipe(), params = copy(params), options = common(),
    seed = random.seed(),
    engine = {
      version = system.version, revision = system.revision, compiler = system.compiler, flags = system.flags,
      lua = _VERSION,
    },
    cpu = system.cpu(), threads = system.threads(),
    blas = blas(), files = {},
    started = os.date "!%Y-%m-%dT%H:%M:%SZ",
  }
end

--- What goes into the file: all but what only the running process needs.
local function stored(self)
  local copied = copy(self)
  copied.path, copied.seen = nil, nil
  return copied
end

--- The keys of both, in order.
local function names_in(a, b)
  local seen, list = {}, {}
  for _, fields in ipairs { a, b } do
    for name in pairs(fields) do
      if not seen[name] then seen[name], list[#list + 1] = true, name end
    end
  end
  table.sort(list)
  return list
end

--- A resumed run must be the one that was stopped. Another CPU can change the last bits: that is said, not refused.
local function compare(path, before, now)
  if before.lacuna_format ~= FORMAT then
    errors.fail("%s: lacuna_format %s; this build reads %d", path, tostring(before.lacuna_format), FORMAT)
  end
  for _, key in ipairs { "recipe", "params", "options", "cpu" } do
    if type(before[key]) ~= "table" then errors.fail("%s: has no '%s': not a run's manifest", path, key) end
  end
  local function refuse(what, values)
    errors.fail("%s: %s is not what this run began with%s; start a new run without --resume", path, what, values)
  end
  local function same(what, was, is)
    local a, b = json.encode(was, "manifest"), json.encode(is, "manifest")
    if a ~= b then refuse(what, (": it was %s and is %s now"):format(a, b)) end
  end
  if before.recipe.hash ~= now.recipe.hash then refuse("the recipe", "") end
  for _, name in ipairs(names_in(before.params, now.params)) do
    same("parameter " .. name, before.params[name], now.params[name])
  end
  for _, name in ipairs(names_in(before.options, now.options)) do
    same("--" .. name, before.options[name], now.options[name])
  end
  same("the seed", before.seed, now.seed)
  if before.cpu.model ~= now.cpu.model then
    io.stderr:write(("lacuna: this run began on %s and goes on on %s: the last bits may differ\n"):format(
      before.cpu.model, now.cpu.model))
  end
end

--- The name of the run that a manifest is of.
---@param text string
---@param path string of the file, for messages
---@return string
function manifest.name(text, path)
  local document = json.decode(text, path)
  if type(document) ~= "table" or type(document.name) ~= "string" then errors.fail("%s: not a run's manifest", path) end
  return document.name
end

--- Writes the manifest of a new run, or checks that of a resumed one. From here on files that are read are noted.
---@param path string
---@param name string
---@param params table|nil
---@param resumed boolean
---@return table manifest for manifest.add_files
function manifest.open(path, name, params, resumed)
  local now = present(name, params)
  now.path, now.seen = path, 0
  files.watch()
  if not resumed then
    files.write(path, json.pretty(stored(now), "manifest"))
    return now
  end
  local before = json.decode(files.read(path), path)
  compare(path, before, now)
  before.path, before.seen = path, 0
  return before
end

--- Notes the hashes of files that were read since the last call: models, texts, tokenizers. The run's own files and the
-- cache of tokens are left out.
---@param self table from manifest.open
---@param directory string of the run
function manifest.add_files(self, directory)
  local added = false
  while true do
    local path = files.watched(self.seen + 1)
    if not path then break end
    self.seen = self.seen + 1
    local own = path:sub(1, #directory + 1) == directory .. "/" or path == options.recipe
    if not own and not path:find("/lacuna/tokens/", 1, true) and files.exists(path) then
      local hash, before = files.hash_file(path), self.files[path]
      if before and before ~= hash then
        errors.fail("%s: %s has changed since this run began; start a new run without --resume", self.path, path)
      end
      self.files[path], added = hash, added or not before
    end
  end
  if added then files.write(self.path, json.pretty(stored(self), "manifest")) end
end

return manifest
