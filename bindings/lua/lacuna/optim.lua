--- lc.optim.adamw, lc.optim.sgd and lc.clip: optimizers for loops written by hand.

local core = require "lacuna.core.optim"
local errors = require "lacuna.errors"
local leaves = require "lacuna.leaves"

local optim = {}

--- The models that are alive: an optimizer finds the held masks of its tensors in them.
local function models()
  return require("lacuna.core.model").live()
end

local function maker(name)
  return function(options)
    local params = type(options) == "table" and options.params
    local list = params and leaves(params, "optim." .. name .. ": params") or {}
    if params and #list == 0 then errors.fail("optim.%s: params is empty: there is nothing to train", name) end
    return core[name](options, list, models())
  end
end

optim.optim = { adamw = maker "adamw", sgd = maker "sgd" }

--- Scales the gradients of `params` so that their global norm is at most `norm`.
---@param params any a selection, parameters, leaves
---@param norm number above 0
---@return number norm before
function optim.clip(params, norm)
  if type(norm) ~= "number" then errors.fail("clip: the norm must be a number, got a %s", type(norm)) end
  return core.sgd({ params = params, lr = 0 }, leaves(params, "clip"), models()):clip(norm)
end

return optim
