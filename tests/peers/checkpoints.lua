-- Lacuna's side of checkpoints.py.
--
--   lacuna checkpoints.lua copy FILE...         every tensor of each, into FILE.safetensors
--   lacuna checkpoints.lua logits MODEL DIR     logits and loss of DIR/ids.safetensors, into DIR/logits.safetensors

local lc = require "lacuna"

if arg[1] == "copy" then
  for i = 2, #arg do
    local tensors = {}
    for name, t in pairs(lc.io.open(arg[i])) do
      tensors[name] = t
    end
    lc.io.save(arg[i] .. ".safetensors", tensors)
  end
else
  local ids = lc.io.open(arg[3] .. "/ids.safetensors").ids
  local loss, logits = lc.load(arg[2]):loss({ ids = ids, labels = ids }, { logits = true })
  lc.io.save(arg[3] .. "/logits.safetensors", { loss = loss:detach(), logits = logits:detach() })
end
