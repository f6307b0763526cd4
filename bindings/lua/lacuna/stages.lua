--- Stages of a run: what is done once, stored, and given back when the recipe runs again.

local checkpoints = require "lacuna.checkpoints"
local core = require "lacuna.core.train"
local errors = require "lacuna.errors"
local files = require "lacuna.core.files"
local json = require "lacuna.json"
local manifest = require "lacuna.manifest"

local stages = {}

local function slug(name)
  return (name:lower():gsub("[^%w]+", "-"):gsub("^%-", ""):gsub("%-$", ""))
end

--- Where a stored file lies.
function stages.path(run, file)
  return run.dir .. "/checkpoints/" .. file
end

--- The index is written last: only what it names counts.
function stages.save_index(run)
  files.write(stages.path(run, "index.json"), json.pretty(run.index, "index.json"))
end

--- What goes into every checkpoint beside models: run.state, and how far the log was.
function stages.position(run, more)
  more.state, more.lines = run.state, run.cursor
  return more
end

--- Puts run.state back, in the same table, and the place in the log.
function stages.restore_position(run, stored)
  for key in pairs(run.state) do run.state[key] = nil end
  for key, value in pairs(stored.state) do run.state[key] = value end
  run.cursor = stored.lines
  if run.cursor > #run.lines then
    errors.fail("%s/metrics.jsonl has %d lines, and %d were logged when this was stored; start a new run without --resume", -- luacheck: ignore 631
      run.dir, #run.lines, run.cursor)
  end
end

--- What was measured of the machine: not compared on resume.
function stages.log_timing(run, fields)
  fields.stage = run.stage_name
  fields.engine_peak_bytes, fields.resident_peak_bytes = core.memory()
  files.append(run.dir .. "/timing.jsonl", json.encode(fields, "timing.jsonl") .. "\n")
end

-- -- models that a stage changes without saying so --------------------------------------------------------------------

local function fingerprints(named)
  local prints, is_named = {}, {}
  for _, model in pairs(named) do is_named[model] = true end
  for _, model in ipairs(require("lacuna.core.model").live()) do
    if not is_named[model] then prints[model] = core.fingerprint(model) end
  end
  return prints
end

local function refuse_changes(name, before)
  for model, print_before in pairs(before) do
    if core.fingerprint(model) ~= print_before then
      errors.fail("stage '%s' changed a model that it does not name:\n%s\n"
        .. 'name it: run:stage("%s", { model = model }, ...)', name, tostring(model):match "^[^\n]*", name)
    end
  end
end

-- -- finishing and coming back ----------------------------------------------------------------------------------------

--- Takes the checkpoints of a stage's loops out of the index; returns their files.
local function drop_loops(run, prefix)
  local dropped = {}
  for key, saved in pairs(run.index.loops) do
    if key:sub(1, #prefix) == prefix then
      for _, checkpoint in ipairs(saved) do dropped[#dropped + 1] = checkpoint.file end
      run.index.loops[key] = nil
    end
  end
  return dropped
end

--- Takes out the models of earlier stages that were not to be kept; returns their files.
local function drop_models(run)
  local dropped = {}
  for i = 1, run.stage_number - 1 do
    local entry = run.index.stages[i]
    if entry.models and not entry.keep then
      dropped[#dropped + 1] = entry.models
      entry.models = nil
    end
  end
  return dropped
end

local function finish(run, name, models, values, keep)
  local base = ("stage-%02d-%s"):format(run.stage_number, slug(name))
  local entry = { name = name, file = base .. ".safetensors", keep = keep }
  if next(models) then
    entry.models = base .. "-models.safetensors"
    checkpoints.save(stages.path(run, entry.models), models, nil, {})
  end
  local boxes = {} -- one for each value, so that nil has a place too
  for i = 1, values.n do boxes[i] = { value = values[i] } end
  checkpoints.save(stages.path(run, entry.file), {}, nil, stages.position(run, { values = boxes }))
  for i = 1, run.stage_number - 1 do -- a stage whose error the recipe caught has a place, and nothing in it
    run.index.stages[i] = run.index.stages[i] or { name = "" }
  end
  run.index.stages[run.stage_number] = entry
  local dropped, models_dropped = drop_loops(run, ("%02d."):format(run.stage_number)), drop_models(run)
  stages.save_index(run)
  for _, list in ipairs { dropped, models_dropped } do
    for _, file in ipairs(list) do files.remove_tree(stages.path(run, file)) end
  end
end

local function come_back(run, entry, name, models)
  if entry.name ~= name then
    errors.fail("stage %d was '%s' when this run was stopped, and is '%s' now; start a new run without --resume",
      run.stage_number, entry.name, name)
  end
  if entry.models then checkpoints.load(stages.path(run, entry.models), models) end
  local stored = checkpoints.load(stages.path(run, entry.file), {})
  stages.restore_position(run, stored)
  local values = {}
  for i, box in ipairs(stored.values) do values[i] = box.value end
  return table.unpack(values, 1, #stored.values)
end

--- Runs fn once. When the recipe is resumed after that, what fn returned comes back, its models are put as it left
-- them, and so are run.state, the random streams and the place in the log.
---@param name string
---@param models table name -> model: every model that fn changes
---@param fn function returns plain data and tensors
---@param opts table|nil {keep = false}: the stored models go when a later stage has ended, for recipes that look at
-- no model between the two
---@return any what fn returned
function stages.stage(run, name, models, fn, opts)
  errors.receiver("run:stage", run, "run")
  if type(name) ~= "string" or type(models) ~= "table" or type(fn) ~= "function" then
    errors.fail 'run:stage: expected (name, { model = model }, function)'
  end
  errors.expect("run:stage", "the last argument", opts, "table", true)
  errors.check_options("run:stage", opts or {}, { "keep" })
  for key, model in pairs(models) do
    if type(key) ~= "string" then errors.fail "run:stage: models are given by name, as in { model = model }" end
    errors.expect("run:stage", "'" .. key .. "'", model, "model")
  end
  if run.stage_name then errors.fail("run:stage: '%s' cannot begin inside '%s'", name, run.stage_name) end
  run.stage_number, run.loop_number = run.stage_number + 1, 0
  local entry = run.index.stages[run.stage_number]
  if entry and entry.file then return come_back(run, entry, name, models) end
  local before, began = fingerprints(models), core.seconds()
  run.stage_name, run.models = name, models
  local leave <close> = setmetatable({}, { __close = function() -- luacheck: ignore
    run.stage_name, run.models, run.loop_number = nil, {}, 0
  end })
  local values = table.pack(fn())
  manifest.add_files(run.manifest, run.dir)
  refuse_changes(name, before)
  finish(run, name, models, values, not opts or opts.keep ~= false)
  stages.log_timing(run, { seconds = core.seconds() - began })
  return table.unpack(values, 1, values.n)
end

return stages
