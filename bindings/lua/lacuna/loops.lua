--- What a run does for a training loop (lc.steps, lc.train): checkpoints every so often, and going on from the last.
--
-- A loop is known by the stage that it runs in, or by the number of stages before it, and by its number there.

local checkpoints = require "lacuna.checkpoints"
local core = require "lacuna.core.train"
local errors = require "lacuna.errors"
local files = require "lacuna.core.files"
local manifest = require "lacuna.manifest"
local stages = require "lacuna.stages"

local SAVE_SECONDS = 600 -- between checkpoints of a loop that does not say save_every

local loops = {}

local function new_key(run)
  run.loop_number = run.loop_number + 1
  return ("%02d%s%d"):format(run.stage_number, run.stage_name and "." or "+", run.loop_number)
end

--- The models that a checkpoint of this loop holds: those that the stage names, and the one that is trained.
local function models_of(run, loop)
  local models, named = {}, false
  for name, model in pairs(run.models) do
    models[name], named = model, named or model == loop.model
  end
  if not named then models["loop.model"] = loop.model end
  return models
end

--- What the objective is, for comparing: of a function no more can be told.
local function objective(loop)
  return loop.objective and "a function" or "causal"
end

--- Where the run is now, for people.
function loops.where(run)
  return run.stage_name or run.name
end

--- Called when a loop is made: puts it where its last checkpoint was.
function loops.begin_loop(run, loop)
  manifest.add_files(run.manifest, run.dir)
  loop.key, loop.saved_at = new_key(run), core.seconds()
  local saved = run.index.loops[loop.key]
  if not saved then return end
  local file = saved[#saved].file
  local stored = checkpoints.load(stages.path(run, file), models_of(run, loop), loop.trainer)
  if stored.objective ~= objective(loop) then
    errors.fail("%s: option 'objective' was %s when this training loop was stored, and is %s now; set it back, or "
      .. "start a new run without --resume", stages.path(run, file), tostring(stored.objective), objective(loop))
  end
  stages.restore_position(run, stored)
  loop.step, loop.loss, loop.tokens = saved[#saved].step, stored.loss, stored.tokens
  loop.eval, loop.best = stored.eval, stored.best
end

local function save(run, loop)
  local saved = run.index.loops[loop.key] or {}
  if #saved > 0 and saved[#saved].step == loop.step then return end
  local file = ("loop-%s-step-%06d.safetensors"):format(loop.key:gsub("%+", "-after-"):gsub("%.", "-"), loop.step)
  checkpoints.save(stages.path(run, file), models_of(run, loop), loop.trainer, stages.position(run, {
    objective = objective(loop), loss = loop.loss, tokens = loop.tokens, eval = loop.eval, best = loop.best,
  }))
  saved[#saved + 1] = { step = loop.step, file = file }
  local dropped = {}
  while #saved > loop.options.keep do dropped[#dropped + 1] = table.remove(saved, 1).file end
  run.index.loops[loop.key] = saved
  stages.save_index(run)
  for _, old in ipairs(dropped) do files.remove_tree(stages.path(run, old)) end
  loop.saved_at = core.seconds()
end

--- Called when a step's update, log and evaluation are done.
function loops.end_step(run, loop)
  local every = loop.options.save_every
  if every and loop.step % every == 0 or not every and core.seconds() - loop.saved_at > SAVE_SECONDS then
    save(run, loop)
  end
end

--- Called when the last step is done. A stage stores its models itself; outside, the loop must not run again either.
function loops.end_loop(run, loop)
  if loop.options.save_every or not run.stage_name then save(run, loop) end
  local seconds = core.seconds() - loop.began
  stages.log_timing(run, {
    steps = loop.step - loop.first, seconds = seconds, tokens_per_second = loop.bar.tokens / math.max(seconds, 1e-9),
  })
end

return loops
