--- Lacuna's side of training.py.
--
--   lacuna training.lua DIR...     each: model, options.json and batches.safetensors -> losses, gradient norms and the
--                                  trained weights in out_32 and out_64.safetensors, and the f32 model in trained/

local lc = require "lacuna"
local json = require "lacuna.json"

local function read_options(directory)
  local file <close> = assert(io.open(directory .. "/options.json"))
  return json.decode(file:read "a", "options.json")
end

local function read_batches(directory)
  local file, batches = lc.io.open(directory .. "/batches.safetensors"), {}
  while file[#batches + 1 .. ".ids"] do
    local name = #batches + 1 .. "."
    batches[#batches + 1] = {
      ids = file[name .. "ids"], labels = file[name .. "labels"], attention_mask = file[name .. "mask"],
    }
  end
  return batches
end

--- Trains; returns what out_*.safetensors holds.
local function train(model, batches, given)
  if #given.freeze > 0 then model:freeze(given.freeze) end
  local options = { steps = #batches // given.accumulate, progress = false }
  for name, value in pairs(given) do
    if name ~= "freeze" then options[name] = value end
  end
  local losses, norms = {}, {}
  local unread = options.optimizer == "sgd" and { "betas", "eps" } or { "momentum" }
  for _, name in ipairs(unread) do options[name] = nil end
  for t in lc.steps(model, batches, options) do
    t:backward()
    losses[#losses + 1], norms[#norms + 1] = t.loss, t.grad_norm
  end
  local out = { losses = lc.tensor(losses, { dtype = "f64" }), norms = lc.tensor(norms, { dtype = "f64" }) }
  for name, p in pairs(model:parameters()) do out[name] = p end
  out.logits = lc.no_grad(model.logits, model, batches[1].ids)
  return out
end

for _, directory in ipairs(arg) do
  local batches, given = read_batches(directory), read_options(directory)
  for _, dtype in ipairs { "f32", "f64" } do
    local model = lc.load(directory, { dtype = dtype })
    lc.io.save(("%s/out_%s.safetensors"):format(directory, dtype:sub(2)), train(model, batches, given))
    if dtype == "f32" then model:save(directory .. "/trained") end
  end
end
