-- Lacuna's side of files.py.

local lc = require "lacuna"

local directory = arg[1]
local theirs = lc.io.open(directory .. "/theirs.safetensors")

local all, floats = {}, {}
for name, t in pairs(theirs) do
  all[name] = t
  if name:find "^f%d" or name == "large" then floats[name] = t end
end
lc.io.save(directory .. "/ours.safetensors", all, { metadata = lc.io.metadata(theirs) })
lc.io.save(directory .. "/view.safetensors", { view = theirs.large:transpose(1, 2) })
for _, dtype in ipairs { "f32", "f16", "bf16" } do
  lc.io.save(("%s/%s.safetensors"):format(directory, dtype), floats, { dtype = dtype })
end
