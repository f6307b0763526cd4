--- What runs store and go on from: models, a trainer, run.state, random streams, and how far the log was.

local core = require "lacuna.core.checkpoint"
local json = require "lacuna.json"
local random = require "lacuna.core.random"

local checkpoints = {}

local function sorted(table_of)
  local keys = {}
  for key in pairs(table_of) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- Writes one file, whole or not at all.
---@param path string
---@param models table name -> model
---@param trainer any the loop's trainer, or nil
---@param data table plain data and tensors; the streams of random numbers are stored beside it
function checkpoints.save(path, models, trainer, data)
  local c <close> = core.new()
  for _, name in ipairs(sorted(models)) do c:add_model(name, models[name]) end
  if trainer then c:add_trainer(trainer) end
  local tensors = {}
  c:set_text(json.encode({ data = data, random = random.state() }, "run", tensors))
  for i, tensor in ipairs(tensors) do c:add_tensor("data." .. i, tensor) end
  c:write(path)
end

--- Puts models, trainer and random streams back as they were; returns the data.
---@return table data
function checkpoints.load(path, models, trainer)
  local c <close> = core.open(path)
  for _, name in ipairs(sorted(models)) do c:get_model(name, models[name]) end
  if trainer then c:get_trainer(trainer) end
  local tensors = {}
  repeat
    local tensor = c:get_tensor("data." .. #tensors + 1)
    tensors[#tensors + 1] = tensor
  until not tensor
  local stored = json.decode(c:text(), path, tensors)
  random.restore(stored.random)
  return stored.data
end

return checkpoints
