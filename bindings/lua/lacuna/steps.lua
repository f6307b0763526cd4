--- lc.steps and lc.train: training loops.
--
-- The engine does what a step does (lacuna.core.train: begin, forward, backward, update); this file decides when,
-- around the body that the user writes: which batches, the objective, evaluation, logging, checkpoints.

local core = require "lacuna.core.train"
local errors = require "lacuna.errors"
local grad = require "lacuna.core.grad"
local leaves = require "lacuna.leaves"
local progress = require "lacuna.progress"
local random = require "lacuna.core.random"

local steps = {}

-- -- where batches come from ------------------------------------------------------------------------------------------
--
-- A source has per_epoch(options), steps in one epoch (nil where there are none); open(loop); and fetch(loop), which
-- gives the trainer the batches of its step and returns them as a list, or nil when the data has ended.

local function is_dataset(data)
  local metatable = getmetatable(data)
  return type(metatable) == "table" and metatable.__name == "lacuna.dataset"
end

--- What a model reads of a batch whose other fields are the objective's.
local function for_model(batch)
  return {
    ids = batch.ids, labels = batch.labels, attention_mask = batch.attention_mask,
    token_type_ids = batch.token_type_ids,
  }
end

--- Adds the number-th batch. One without ids is the objective's business alone.
local function give(loop, batches, batch, number)
  if type(batch) ~= "table" or not (batch.ids or loop.objective) then
    errors.fail("steps: batch %d must be a table such as {ids = ..., labels = ...}%s", number,
      type(batch) ~= "table" and ", got a " .. type(batch) or "")
  end
  if batch.ids then loop.trainer:give(loop.objective and for_model(batch) or batch) end
  batches[#batches + 1] = batch
end

--- The engine reads a dataset itself; batches become Lua values only for objectives written in Lua.
local function from_dataset(data)
  local source = {}
  function source.per_epoch(options) return core.steps_per_epoch(data, options.batch, options.accumulate) end
  function source.open(loop) loop.trainer:read(data, loop.user_options, loop.seed) end
  function source.fetch(loop)
    local batches = {}
    while loop.objective do
      local batch = loop.trainer:batch(#batches + 1)
      if not batch then break end
      batches[#batches + 1] = batch
    end
    return batches
  end
  return source
end

local function from_list(data)
  local source = {}
  if #data == 0 then errors.fail "steps: the list of batches is empty" end
  function source.per_epoch(options) return (#data + options.accumulate - 1) // options.accumulate end
  function source.open() end
  function source.fetch(loop)
    local accumulate = loop.options.accumulate
    local first = (loop.step - 1) % source.per_epoch(loop.options) * accumulate
    local batches = {}
    for i = first + 1, math.min(first + accumulate, #data) do
      give(loop, batches, data[i], i)
    end
    return batches
  end
  return source
end

--- A function is called with the number of the batch, from 1. A loop that goes on from a checkpoint calls it again for
-- the batches that are used up, so that functions which count on being called in order are right too.
local function from_function(data)
  local source, called = {}, 0
  function source.per_epoch() return nil end
  function source.open(loop) called = loop.options.start * loop.options.accumulate end
  function source.skip(loop)
    while called < loop.step * loop.options.accumulate do
      called = called + 1
      data(called)
    end
  end
  function source.fetch(loop)
    local batches = {}
    for _ = 1, loop.options.accumulate do
      called = called + 1
      local batch = data(called)
      if batch == nil then break end
      give(loop, batches, batch, called)
    end
    return #batches > 0 and batches or nil
  end
  return source
end

local function source_of(data)
  if is_dataset(data) then return from_dataset(data) end
  if type(data) == "function" then return from_function(data) end
  if type(data) == "table" then return from_list(data) end
  errors.fail("steps: data must be a dataset, a list of batches or a function that gives them, got %s",
    errors.kind(data))
end

-- -- the step that the body sees --------------------------------------------------------------------------------------

local step_methods = {}
steps.methods = step_methods -- for help
local step_meta = { __name = "step" }

local function live(t, what)
  errors.receiver("t:" .. what, t, "step")
  local loop = rawget(t, "loop")
  if loop.current ~= t then errors.fail("t:%s: step %d is over", what, t.step) end
  return loop.trainer
end

--- Runs what is left of the backward pass; after it p.grad is the whole step's gradient.
function step_methods.backward(t)
  live(t, "backward"):backward()
end

--- Leaves tensors out of this step. Before t:backward() their gradients are not computed.
---@param things any a selection, layers, parameters, a list of those
---@param options table|nil {mode = "freeze"}: weight and moments stay; "grad": an update with a gradient of zero
function step_methods.skip(t, things, options)
  errors.expect("t:skip", "the last argument", options, "table", true)
  errors.check_options("t:skip", options or {}, { "mode" })
  local mode = options and options.mode or "freeze"
  if mode ~= "freeze" and mode ~= "grad" then
    errors.fail("t:skip: mode must be 'freeze' or 'grad', got '%s'", tostring(mode))
  end
  live(t, "skip"):skip(leaves(things, "t:skip"), mode)
end

--- Clips the gradient and changes the weights. What comes after in the body sees the new ones.
function step_methods.update(t)
  live(t, "update"):update()
end

--- The engine's counts of the step: what it really did, and with what it left out.
---@return integer macs, integer dense
local function macs_of(trainer)
  if select(9, trainer:state()) == "forward" then trainer:backward() end
  local _, _, _, _, _, macs, dense = trainer:state()
  return macs, dense
end

--- Counts and norm need the whole gradient: reading them runs what is left of the backward pass.
local step_values = {
  macs = function(trainer) return (macs_of(trainer)) end,
  dense_macs = function(trainer) return (select(2, macs_of(trainer))) end,
  grad_norm = function(trainer) return trainer:norm() end,
}

function step_meta.__index(t, name)
  if step_methods[name] then return step_methods[name] end
  local read = step_values[name]
  if read then return read(live(t, name)) end
  errors.fail("t.%s: no such field; a step has step, loss, lr, progress, tokens, macs, dense_macs, "
    .. "grad_norm, backward, skip, update", tostring(name))
end

function step_meta.__tostring(t)
  return ("step %d (progress %.4g): loss %.6g, lr %.4g"):format(t.step, t.progress, t.loss, t.lr)
end

-- -- the loop ---------------------------------------------------------------------------------------------------------

local loop_meta = { __name = "loop" }
loop_meta.__index = loop_meta

local function steps_in_all(options, per_epoch)
  local by_epochs
  if options.epochs then
    if not per_epoch then errors.fail "steps: a function has no epochs; give steps" end
    by_epochs = math.max(1, math.ceil(options.epochs * per_epoch))
  end
  if options.steps and by_epochs then return math.min(options.steps, by_epochs) end
  return options.steps or by_epochs or errors.fail "steps: give steps or epochs"
end

local function objective_of(objective)
  if objective == nil or objective == "causal" then return nil end
  if type(objective) == "function" then return objective end
  errors.fail("steps: objective must be 'causal' or function(model, batch, t) -> loss [, count], got %s",
    type(objective) == "string" and "'" .. objective .. "'" or "a " .. type(objective))
end

local function add_groups(trainer, opts)
  if opts.groups ~= nil and (type(opts.groups) ~= "table" or #opts.groups == 0 and next(opts.groups) ~= nil) then
    errors.fail "steps: groups must be a list of tables, as in {{params = selection, lr = 1e-4}}"
  end
  for i, group in ipairs(opts.groups or {}) do
    if type(group) ~= "table" or group.params == nil then
      errors.fail("steps: groups[%d] must be a table such as {params = selection, lr = 1e-4}", i)
    end
    trainer:group(leaves(group.params, ("steps: groups[%d].params"):format(i)), ("groups.%d"):format(i), group)
  end
  if opts.params then trainer:group(leaves(opts.params, "steps: params"), "params", {}) end
end

local function check_needs(opts)
  errors.expect("steps", "run", opts.run or nil, "run", true)
  for _, name in ipairs { "log_every", "save_every", "best" } do
    if opts[name] and not opts.run then errors.fail("steps: option '%s' needs a run, as in run = run", name) end
  end
  for _, name in ipairs { "eval_every", "best" } do
    if opts[name] and not opts.eval then errors.fail("steps: option '%s' needs eval = a dataset or function", name) end
  end
  if opts.best then opts.run:check_tag("steps: option 'best'", opts.best) end
  local eval = opts.eval
  if eval and not (type(eval) == "function" or is_dataset(eval) or type(eval) == "table" and #eval > 0) then
    errors.fail("steps: eval must be a dataset, a list of batches, or a function, got %s",
      type(eval) == "table" and "an empty list" or errors.kind(eval))
  end
end

local function new_loop(model, data, opts, check)
  opts = opts or {}
  local options = check(opts)
  check_needs(opts)
  local source = source_of(data)
  local count = steps_in_all(options, source.per_epoch(options))
  local loop = setmetatable({
    model = model, source = source, options = options, user_options = opts, steps = count, step = options.start,
    objective = objective_of(opts.objective), seed = opts.seed or random.seed(), run = opts.run, best = nil,
    trainer = core.new(model, opts, count),
  }, loop_meta)
  add_groups(loop.trainer, opts)
  source.open(loop)
  if loop.run then
    loop.run:begin_loop(loop)
    if source.skip and loop.step > options.start then source.skip(loop) end
  end
  loop.first, loop.began = loop.step, core.seconds()
  loop.bar = progress.new(loop.run and loop.run:where() or "train", loop.step, count, options.progress)
  return loop
end

--- One micro-batch after the other through an objective written in Lua. Each weighs as many labelled tokens as the
-- model counts, or as the function returns; the whole is divided by their number.
local function run_objective(loop, t, batches)
  local trainer, counts, labels, seen = loop.trainer, {}, 0, 0
  for i, batch in ipairs(batches) do
    counts[i] = batch.ids and #batches > 1 and trainer:labels(i) or 1
    labels = labels + counts[i]
  end
  for i, batch in ipairs(batches) do
    local loss, count = grad.scope(loop.objective, loop.model, batch, t)
    local metatable = getmetatable(loss)
    if type(metatable) ~= "table" or metatable.__name ~= "lacuna.tensor" then
      errors.fail("steps: the objective must return a loss tensor, got %s", loss == nil and "nil" or "a " .. type(loss))
    end
    if count ~= nil and (type(count) ~= "number" or count ~= count or count < 0) then
      errors.fail("steps: the objective's count must be a number from 0, got %s", tostring(count))
    end
    if #batches == 1 then count = 1 end
    count = count or counts[i]
    seen = seen + count
    trainer:add(loss, labels > 0 and count / labels or 0, i == #batches)
  end
  if seen == 0 then errors.fail("step %d: no token of its batches has a label", t.step) end
  if seen ~= labels then trainer:rescale(labels / seen) end
end

--- Begins the next step: its batches, its loss. Nil when the data has ended.
local function begin_step(loop)
  local trainer = loop.trainer
  trainer:begin()
  local t = setmetatable({ loop = loop, step = loop.step + 1 }, step_meta)
  loop.step, loop.current = t.step, t
  local _
  _, _, t.lr, t.progress = trainer:state()
  local batches = loop.source.fetch(loop)
  if not batches then
    trainer:drop()
    loop.step, loop.current = loop.step - 1, nil
    if loop.step == loop.options.start then errors.fail "steps: the data is empty: its function gave no batch" end
    return nil
  end
  if loop.objective then run_objective(loop, t, batches) else trainer:forward() end
  _, t.loss, _, _, t.tokens = trainer:state()
  return t
end

--- Mean loss over the labelled tokens of a dataset or a list of batches.
local function mean_loss(model, data, batch_size)
  if is_dataset(data) then
    local sum, count = core.evaluate(model, data, batch_size)
    return sum / count
  end
  local total, labels = 0, 0
  for _, batch in ipairs(data) do
    local sum, count = core.evaluate(model, batch)
    total, labels = total + sum, labels + count
  end
  if labels == 0 then errors.fail "steps: no token of eval's batches has a label" end
  return total / labels
end

local function evaluate(loop, t)
  local eval, value = loop.user_options.eval
  if type(eval) == "function" then
    value = grad.no_grad(eval, loop.model, t)
  else
    value = mean_loss(loop.model, eval, loop.options.batch)
  end
  if type(value) ~= "number" then errors.fail("steps: eval must give a number, got %s", tostring(value)) end
  if loop.run then loop.run:log { step = t.step, eval = value } end
  if not loop.best or value < loop.best.eval then
    loop.best = { eval = value, step = t.step }
    if loop.user_options.best then loop.run:save(loop.model, loop.user_options.best) end
  end
  loop.eval = value
end

local function due(every, loop)
  return every and (loop.step % every == 0 or loop.step == loop.steps)
end

--- Ends the step: the update, if the body left it, and what happens every n steps.
local function end_step(loop)
  local t, trainer = loop.current, loop.trainer
  trainer:update()
  t.macs, t.dense_macs, loop.tokens = select(6, trainer:state())
  t.grad_norm = trainer:norm()
  loop.current = nil
  loop.loss = t.loss
  loop.bar:update(t.step, t.loss, t.tokens)
  if due(loop.options.log_every, loop) then
    loop.run:log { step = t.step, loss = t.loss, lr = t.lr }
  end
  if loop.user_options.eval and due(loop.options.eval_every or loop.steps, loop) then evaluate(loop, t) end
  if loop.run then loop.run:end_step(loop) end
end

--- Drops a step that has not been updated, and gives the moments' memory back at once.
function loop_meta.__close(loop)
  if loop.closed then return end
  local trainer <close> = loop.trainer
  loop.closed = true
  loop.bar:close()
  if loop.current then trainer:drop() end
  loop.current = nil
end

local function advance(loop)
  if loop.closed then errors.fail "steps: this loop has ended" end
  if loop.current then end_step(loop) end
  if loop.step < loop.steps then
    local t = begin_step(loop)
    if t then return t end
  end
  if loop.run then loop.run:end_loop(loop) end
  loop_meta.__close(loop)
  return nil
end

--- for t in lc.steps(model, data, options) do ... end: t is one optimizer step, when its loss is known.
---@param model any
---@param data any a dataset, a list of batches, or function(i) -> batch
---@param options table see help "steps"
function steps.steps(model, data, options)
  local loop = new_loop(model, data, options, core.steps)
  return function() return advance(loop) end, nil, nil, loop
end

--- Trains without a body.
---@return table {loss of the last step, steps, tokens, seconds, eval, best}
function steps.train(model, data, options)
  local loop <close> = new_loop(model, data, options, core.train)
  repeat until not advance(loop)
  return {
    loss = loop.loss, steps = loop.step, tokens = loop.tokens, seconds = core.seconds() - loop.began,
    eval = loop.eval, best = loop.best,
  }
end

return steps
