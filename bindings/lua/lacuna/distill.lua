--- lc.distill and lc.loss.kl: learning from another model's distribution (Hinton et al. 2015).

local core = require "lacuna.core.distill"
local errors = require "lacuna.errors"

local distill = { loss = {} }

--- An objective for lc.steps and lc.train: alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy. Heads and loss
-- run in chunks of tokens.
---@param student any the model that is trained; the loop must be its own
---@param teacher any
---@param options table|nil {temperature = 2, alpha = 0.5}
---@return function objective(model, batch, t) -> loss, count
function distill.distill(student, teacher, options)
  errors.expect("distill", "the student", student, "model")
  errors.expect("distill", "the teacher", teacher, "model")
  errors.expect("distill", "the last argument", options, "table", true)
  errors.check_options("distill", options or {}, { "temperature", "alpha" })
  local chosen = { temperature = 2, alpha = 0.5 }
  for name, value in pairs(options or {}) do chosen[name] = value end
  return function(model, batch)
    if model ~= student then errors.fail "distill: this objective was made for another model than the loop's" end
    return core.loss(model, batch, teacher, batch, chosen)
  end
end

local function is_tensor(x)
  local metatable = getmetatable(x)
  return type(metatable) == "table" and metatable.__name == "lacuna.tensor"
end

--- KL over logits (..., V): mean over tokens, or over those whose label is not -100.
local function kl_of_logits(student, teacher, temperature, labels)
  local log_s = (student / temperature):log_softmax()
  local log_t = (teacher:detach() / temperature):log_softmax()
  local per_token = (log_t:exp() * (log_t - log_s)):sum(-1) * (temperature * temperature)
  if not labels then return per_token:mean() end
  local kept = labels:ne(-100)
  return (per_token * kept):sum() / kept:sum():item()
end

--- T^2 KL(teacher at T || student at T), mean over tokens. With models it counts the labelled tokens and runs heads and
-- loss in chunks; with logits, labels (...) of -100 leave tokens out.
---@param student any logits, or {model, batch}
---@param teacher any the same
---@param options table|nil {temperature = 1, labels}
function distill.loss.kl(student, teacher, options)
  errors.expect("loss.kl", "the last argument", options, "table", true)
  errors.check_options("loss.kl", options or {}, { "temperature", "labels" })
  local temperature = options and options.temperature or 1
  if type(temperature) ~= "number" or temperature ~= temperature or temperature <= 0 then
    errors.fail("loss.kl: temperature must be a number above 0, got %s", tostring(temperature))
  end
  errors.expect("loss.kl", "labels", options and options.labels, "tensor", true)
  if is_tensor(student) and is_tensor(teacher) then
    return kl_of_logits(student, teacher, temperature, options and options.labels)
  end
  if type(student) ~= "table" or type(teacher) ~= "table" then
    errors.fail "loss.kl: expected two tensors of logits, or {model, batch} twice"
  end
  if options and options.labels then errors.fail "loss.kl: labels belong into the batch here" end
  return (core.loss(student[1], student[2], teacher[1], teacher[2], { temperature = temperature, alpha = 1 }))
end

return distill
