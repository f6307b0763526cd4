--- What `require "lacuna"` gives: one table whose fields come from the modules that define them, each opened when a
-- field of it is first read, so that starting the interpreter loads nothing that the recipe does not use.

-- Field -> the module "lacuna.<module>" that has it under the same name.
local home = {
  calibrate = "core.calibrate",
  clip = "optim",
  distill = "distill",
  dataset = "core.dataset",
  func = "core.func",
  gradcheck = "core.grad",
  load = "model",
  model = "model",
  loss = "distill",
  no_grad = "core.grad",
  optim = "optim",
  param = "core.grad",
  params = "params",
  permutation = "core.random",
  ramp = "core.schedule",
  rand = "core.random",
  randint = "core.random",
  randn = "core.random",
  rank = "rank",
  run = "run",
  schedule = "core.schedule",
  scope = "core.grad",
  seed = "core.random",
  show = "show",
  steps = "steps",
  stream = "core.random",
  tokenizer = "core.tokenizer",
  train = "steps",
}

-- Under --toy these come from the module "lacuna.toy" instead.
local in_toy = { load = true, dataset = true, tokenizer = true }

-- Fields that are whole modules, "lacuna.<module>" (lc.mask, lc.io).
local whole = {
  io = "core.io",
  mask = "core.mask",
  prune = "core.prune",
}

-- The array library: every function of this module is a field too.
local arrays = "lacuna.core.tensor"

--- The keys of all the tables, in order.
local function keys_of(...)
  local list = {}
  for _, fields in ipairs { ... } do
    for name in pairs(fields) do list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function names() return keys_of(require(arrays), home, whole) end

--- Makes reading a name that a module has not an error with a suggestion: lc.prune.magntude.
local function refuse_other_names(path, module)
  local meta = getmetatable(module) or {}
  meta.__index = meta.__index or function(_, name)
    local errors, list = require "lacuna.errors", {}
    for known in next, module do list[#list + 1] = known end
    errors.fail("%s", errors.no_field(path, tostring(name), list))
  end
  return setmetatable(module, meta)
end

return setmetatable({}, {
  __name = "lacuna",
  __names = names, -- for suggestions and completion

  --- For help: the names by what they are for.
  __sections = function()
    return { { "models, text, training, runs", keys_of(home, whole) }, { "tensors", keys_of((require(arrays))) } }
  end,

  __tostring = function()
    return ("lacuna %s: %d names; Tab after `lc.` lists them, help(lc.train) explains one"):format(
      require("lacuna.core.system").version, #names())
  end,

  __index = function(self, name)
    local value
    if in_toy[name] and require("lacuna.options").value.toy then
      value = require("lacuna.toy")[name]
    elseif home[name] then
      value = require("lacuna." .. home[name])[name]
    elseif whole[name] then
      value = require("lacuna." .. whole[name])
    else
      value = require(arrays)[name]
    end
    if value == nil then
      local errors = require "lacuna.errors"
      errors.fail("lc.%s: no such name%s", tostring(name), errors.suggestion(tostring(name), names()))
    end
    if type(value) == "table" then refuse_other_names("lc." .. name, value) end
    rawset(self, name, value)
    return value
  end,

  __newindex = function(_, name)
    require("lacuna.errors").fail("lc.%s: the library cannot be assigned to; use a local", tostring(name))
  end,

  __pairs = function(self)
    local list, i = names(), 0
    return function()
      i = i + 1
      if list[i] then return list[i], self[list[i]] end
    end
  end,
})
