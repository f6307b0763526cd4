-- Wanda (Sun et al. 2024): in each row, the weights go whose size times the norm of their input is smallest. Blocks are
-- pruned one after another, each on what the pruned blocks before it give.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, samples = 128, sparsity = 0.5,
  help = { samples = "windows of calibration text", sparsity = "of each row" },
  toy = { length = 32, samples = 8 },
}

--- Which weights of W (O, I) stay, for inputs with these norms (I).
local function keep(W, norm, sparsity)
  return (W:abs() * norm):keep(W.shape[2] - math.floor(sparsity * W.shape[2]), { dim = 2 })
end

local function prune(layers, data, sparsity)
  local kept = {}
  for layer, stats in lc.calibrate(layers, data, { H = false }) do
    local W = layer.weight:detach()
    kept[layer] = keep(W, stats.norm, sparsity)
    W:copy_(W * kept[layer])
  end
  local mask = lc.mask.from(layers, kept)
  mask:hold()
  return mask
end

local run = lc.run { name = "wanda", params = p }
local model = lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
run:log { sparsity = 0, perplexity = model:perplexity(test) }
run:stage("prune", { model = model }, function()
  prune(model:linears(), train:sample(p.samples), p.sparsity)
end)
run:log { sparsity = model:sparsity(), perplexity = model:perplexity(test) }
run:table { columns = { "perplexity", "sparsity" } }
run:save(model, "pruned")
return { prune = prune }
