--- Lacuna's side of pruning.py.
--
--   lacuna pruning.lua DIR...     each: a model, text.safetensors and rounds.json, a list of {method, options}; prunes
--                                 by one after the other in f64 and saves the model in pruned/

local lc = require "lacuna"
local json = require "lacuna.json"

for _, directory in ipairs(arg) do
  local file <close> = assert(io.open(directory .. "/rounds.json"))
  local text = lc.io.open(directory .. "/text.safetensors")
  local model = lc.load(directory, { dtype = "f64" })
  for _, round in ipairs(json.decode(file:read "a", "rounds.json")) do
    lc.prune[round[1]](model:linears(), { { ids = text.ids, attention_mask = text.mask } }, round[2])
  end
  model:save(directory .. "/pruned")
end
