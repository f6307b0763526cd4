--- lc.run: a directory that holds everything about one experiment, and from which it can go on after being killed.
--
--   manifest.json   what was run: recipe, parameters, seed, engine, machine
--   metrics.jsonl   what run:log measured; the same bytes whenever the same recipe runs
--   timing.jsonl    seconds, tokens per second, bytes: what differs from run to run
--   checkpoints/    where to go on; index.json names what counts
--   .lock           empty; locked while a process runs here
--
-- A recipe that is resumed runs again from its top. A finished stage is not run: its values come back, and its models.
-- Lines that were logged before are compared with what is logged now, not written again.

local errors = require "lacuna.errors"
local files = require "lacuna.core.files"
local grad = require "lacuna.core.grad"
local json = require "lacuna.json"
local manifest = require "lacuna.manifest"
local options = require "lacuna.options"

local FORMAT = 1

-- Files of the run's own, which run:text leaves alone.
local OWN = { ["manifest.json"] = true, ["metrics.jsonl"] = true, ["timing.jsonl"] = true }

local run_methods = {}
local run_meta = { __name = "run" }

-- Fields that a run may be without.
local optional = { closed = true, index = true, lines = true, lock = true, manifest = true, stage_name = true }

function run_meta.__tostring(run)
  return ("run %s in %s: %d stages done, %d lines logged"):format(run.name, run.dir, #run.index.stages, #run.lines)
end

local function slug(name)
  return (name:lower():gsub("[^%w]+", "-"):gsub("^%-", ""):gsub("%-$", ""))
end

-- -- the directory ----------------------------------------------------------------------------------------------------

--- A killed process may have written part of a line: it is cut off.
local function whole_lines(path)
  local text = files.read(path) or ""
  local whole = text:match "^(.*\n)" or ""
  if #whole < #text then files.write(path, whole) end
  local lines = {}
  for line in whole:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

--- What a killed process left half-written, and checkpoints that the index does not name, are taken away.
local function clean(run)
  local named = { ["index.json"] = true }
  for _, entry in ipairs(run.index.stages) do
    if entry.file then named[entry.file] = true end
    if entry.models then named[entry.models] = true end
  end
  for _, saved in pairs(run.index.loops) do
    for _, checkpoint in ipairs(saved) do named[checkpoint.file] = true end
  end
  local checkpoints = run.dir .. "/checkpoints"
  for _, file in ipairs(files.list(checkpoints) or {}) do
    if not named[file] then files.remove_tree(checkpoints .. "/" .. file) end
  end
  for _, name in ipairs(files.list(run.dir) or {}) do
    local path = run.dir .. "/" .. name
    if name:find "%.tmp%-%d+%-%d+$" then files.remove_tree(path) end
    for _, inner in ipairs(files.list(path) or {}) do
      if inner:find "%.tmp%-%d+%-%d+$" then files.remove_tree(path .. "/" .. inner) end
    end
  end
end

local function numbered(base, i) return i == 1 and base or ("%s-%d"):format(base, i) end

--- Whether there is something of a run's whose manifest is gone.
local function has_remains(dir)
  return files.exists(dir .. "/metrics.jsonl") or files.exists(dir .. "/checkpoints/index.json")
end

--- The directory to go on in, or the first that is free; and whether it holds a run already. A run called "x-2" may
-- have the directory that the second run called "x" would have: the manifest tells them apart.
local function choose(base, name, resume)
  local i, last = 1, nil
  while true do
    local dir = numbered(base, i)
    local path = dir .. "/manifest.json"
    local text = files.read(path)
    if not text and not has_remains(dir) then return last or dir, last ~= nil end
    if text and resume and slug(manifest.name(text, path)) == slug(name) then last = dir end
    i = i + 1
  end
end

local opened = {} -- base of the directory -> name of the run that this process has there

--- Each run of a recipe has a directory of its own, the same one when the recipe is resumed.
local function refuse_twice(base, name)
  local other = opened[base]
  if other then
    errors.fail("run: '%s' would share %s with '%s', which is open; give each run of a recipe its own name "
      .. "(at the prompt: run:close() ends one)", name, base, other)
  end
end

--- Kept as long as the run; a process that is killed leaves none behind.
local function lock(dir)
  return files.lock(dir .. "/.lock") or errors.fail(
    "run: another process is running in %s; wait until it has ended, or give this run another place (--out DIR)", dir)
end

local function unlock(run)
  getmetatable(run.lock).__close(run.lock)
end

local function load_index(run)
  local path = run.dir .. "/checkpoints/index.json"
  local text = files.read(path)
  if not text then return { lacuna_format = FORMAT, stages = {}, loops = {} } end
  local index = json.decode(text, path)
  if index.lacuna_format ~= FORMAT then
    errors.fail("%s: lacuna_format %s; this build reads %d", path, tostring(index.lacuna_format), FORMAT)
  end
  if type(index.stages) ~= "table" or type(index.loops) ~= "table" then
    errors.fail("%s: names no stages and loops; start a new run without --resume", path)
  end
  return index
end

local function check_options(opts)
  if type(opts) ~= "table" or type(opts.name) ~= "string" or slug(opts.name) == "" then
    errors.fail 'run: give a name, as in lc.run { name = "my-experiment" }'
  end
  errors.check_options("run", opts, { "name", "params", "out" })
  errors.expect("run", "out", opts.out, "string", true)
  if opts.params ~= nil and type(opts.params) ~= "table" then
    errors.fail("run: params must be a table, as lc.params gives, got %s", errors.kind(opts.params))
  end
end

--- Opens a run, or goes on with one (--resume). A recipe gives each of its runs another name, and one process at a
-- time runs in a directory.
---@param opts table {name, params = from lc.params, out = directory of runs, default --out or "runs"}
local function open(opts)
  check_options(opts)
  local unread = options.unread()
  if unread then
    warn(("%s after %s is not read, since the recipe has not called lc.params; put it before the file"):format(unread,
      options.recipe or "-"))
  end
  local base = (opts.out or options.value.out or "runs") .. "/" .. slug(opts.name)
  refuse_twice(base, opts.name)
  local dir, resumed = choose(base, opts.name, options.value.resume)
  local run = setmetatable({
    name = opts.name, base = base, dir = dir, resumed = resumed, kept = grad.exempt {}, cursor = 0, stage_number = 0,
    loop_number = 0, models = {},
  }, run_meta)
  files.make_dirs(dir .. "/checkpoints")
  run.lock = lock(dir)
  local _ <close> = setmetatable({}, { __close = function(_, problem) if problem then unlock(run) end end })
  run.index = load_index(run)
  clean(run)
  run.lines = whole_lines(dir .. "/metrics.jsonl")
  whole_lines(dir .. "/timing.jsonl")
  run.manifest = manifest.open(dir .. "/manifest.json", opts.name, opts.params, resumed)
  opened[base] = opts.name
  return run
end

--- Ends a run before its recipe does: the directory is free for other processes, the name for another run. Also by
-- `local run <close> = lc.run {...}`. A run that is closed takes nothing more.
function run_methods.close(run)
  errors.receiver("run:close", run, "run")
  opened[run.base] = nil
  run.closed = true
  unlock(run)
end

function run_meta.__close(run)
  if not run.closed then run:close() end
end

-- -- logs -------------------------------------------------------------------------------------------------------------

--- JSON has no infinities: in logs they are words.
local function plain(value)
  if type(value) == "number" and (value ~= value or value == math.huge or value == -math.huge) then
    return value ~= value and "nan" or value > 0 and "inf" or "-inf"
  end
  local metatable = getmetatable(value)
  if type(metatable) == "table" and metatable.__name == "lacuna.tensor" then return plain(value:item()) end
  return value
end

--- Writes one line of measurements. On a resumed run a line that is there already is compared.
---@param fields table name -> number, string, boolean or plain table; a tensor of one element counts as its number
function run_methods.log(run, fields)
  errors.receiver("run:log", run, "run")
  if type(fields) ~= "table" then errors.fail("run:log: expected a table, got a %s", type(fields)) end
  local line = { stage = run.stage_name }
  for name, value in pairs(fields) do
    if type(name) ~= "string" then errors.fail("run:log: fields have names, got one called %s", tostring(name)) end
    line[name] = plain(value)
  end
  local text = json.encode(line, "run:log")
  manifest.add_files(run.manifest, run.dir)
  run.cursor = run.cursor + 1
  local before = run.lines[run.cursor]
  if before == text then return end
  if before then
    errors.fail("run:log: line %d of %s/metrics.jsonl is not what this run logged before it was stopped:\n"
      .. "  was %s\n  is  %s\nthe recipe, its data or the machine has changed; start a new run without --resume",
      run.cursor, run.dir, before, text)
  end
  files.append(run.dir .. "/metrics.jsonl", text .. "\n")
  run.lines[run.cursor] = text
end

--- The lines logged so far, as tables.
function run_methods.rows(run)
  errors.receiver("run:rows", run, "run")
  local list = {}
  for i = 1, run.cursor do list[i] = json.decode(run.lines[i], "metrics.jsonl") end
  return list
end

--- Stores a text beside the metrics.
---@param name string of the file; ".txt" is added where it has no ending
---@param text string
function run_methods.text(run, name, text)
  errors.receiver("run:text", run, "run")
  if type(name) ~= "string" or slug(name) == "" or name:find "/" or OWN[name] then
    errors.fail("run:text: the name must be that of a file of yours in the run's directory, got '%s'", tostring(name))
  end
  errors.expect("run:text", "the text", text, "string")
  files.write(run.dir .. "/" .. (name:find "%." and name or name .. ".txt"), text)
end

--- Says, in print and in the metrics, whether something that the experiment claims holds.
---@param text string
---@param holds boolean
function run_methods.claim(run, text, holds)
  errors.receiver("run:claim", run, "run")
  if type(holds) ~= "boolean" then errors.fail("run:claim: expected true or false for \"%s\"", tostring(text)) end
  print(("%s  %s"):format(holds and "holds      " or "DOES NOT HOLD", text))
  run:log { claim = text, holds = holds }
end

local function check_tag(where, tag)
  if type(tag) ~= "string" or slug(tag) == "" or tag:find "/" or tag == "checkpoints" then
    errors.fail("%s: the tag must be a name for a directory, got '%s'", where, tostring(tag))
  end
end

--- Saves a model in the layout of Hugging Face under the run's directory.
---@param model any
---@param tag string name of the directory
---@return string path
function run_methods.save(run, model, tag)
  errors.receiver("run:save", run, "run")
  check_tag("run:save", tag)
  errors.expect("run:save", "the model", model, "model")
  local path = run.dir .. "/" .. tag
  model:save(path)
  return path
end

run_methods.stage = require("lacuna.stages").stage
for name, method in pairs(require "lacuna.plots") do run_methods[name] = method end

local for_users = {} -- for help: without what training loops call
for name, method in pairs(run_methods) do for_users[name] = method end
for name, method in pairs(require "lacuna.loops") do run_methods[name] = method end
function run_methods.check_tag(_, where, tag) check_tag(where, tag) end

local user_names = {}
for name in pairs(for_users) do user_names[#user_names + 1] = name end

function run_meta.__names() return user_names end -- for completion

--- run.state: values that must survive, for the recipe to fill; it is always the same table.
function run_meta.__index(run, name)
  if name == "state" then return run.kept end
  local method = run_methods[name]
  if method or optional[name] then return method end
  errors.fail("%s", errors.no_field("run", tostring(name), user_names))
end

function run_meta.__newindex(run, name, value)
  if name == "state" then
    errors.fail "run.state is the run's own table, which comes back on resume: write into it, as in run.state.round = 1"
  end
  rawset(run, name, value)
end

return { run = open, methods = for_users }
