-- SparseGPT at OPT-125M's shape, random weights and text, 50%: seconds, memory, and the share of them that sgemm would
-- need for the counted products. With --json one line for sparsegpt.py, whose side it is.
--
--   lacuna tests/bench/sparsegpt.lua [--windows N] [--block N] [--mask-block N] [--epsilon X] [--json]
local lc = require "lacuna"
local json = require "lacuna.json"
local system = require "lacuna.core.system"
local train = require "lacuna.core.train"

local p = lc.params {
  windows = 128, length = 512, rows = 4, sparsity = 0.5, block = 128, mask_block = 0, epsilon = 0.0, json = false,
  help = { rows = "windows in one batch", mask_block = "0: those of a block" },
}

--- The best FLOPs per second of a square product: what nothing made of products can pass.
local function sgemm()
  local n, best = 2048, math.huge
  local x, y = lc.randn { n, n }, lc.randn { n, n }
  for _ = 1, 8 do
    local start = train.seconds()
    x:matmul(y)
    best = math.min(best, train.seconds() - start)
  end
  return 2 * n ^ 3 / best
end

local model = lc.model {
  family = "opt", vocab_size = 50272, hidden_size = 768, ffn_dim = 3072, num_hidden_layers = 12,
  num_attention_heads = 12, max_position_embeddings = 2048, word_embed_proj_dim = 768, dropout = 0,
}
local batches = {}
for first = 1, p.windows, p.rows do
  local rows = math.min(p.rows, p.windows - first + 1)
  batches[#batches + 1] = { ids = lc.randint(4, 50272, { rows, p.length }) }
end
local before, start = system.macs(), train.seconds()
local mask = lc.prune.sparsegpt(model:linears(), batches, {
  sparsity = p.sparsity, block = p.block, mask_block = p.mask_block > 0 and p.mask_block or nil, epsilon = p.epsilon,
})
local seconds, flops = train.seconds() - start, 2 * (system.macs() - before)
local engine, resident = train.memory()
local rate = sgemm()
if p.json then
  print(json.encode({
    seconds = seconds, flops = flops, peak_mib = resident / 2 ^ 20, engine_mib = engine / 2 ^ 20,
    sparsity = mask:sparsity(), sgemm = rate,
  }, "bench"))
else
  local mask_block = p.mask_block > 0 and p.mask_block or p.block
  print(("%d windows of %d, block %d, mask block %d, epsilon %g"):format(p.windows, p.length, p.block, mask_block,
    p.epsilon))
  print(("%.1f s, %.0f%% of the roof (sgemm at %.0f GFLOP/s), %.0f MiB at its peak"):format(seconds,
    100 * flops / rate / seconds, rate / 1e9, resident / 2 ^ 20))
end
