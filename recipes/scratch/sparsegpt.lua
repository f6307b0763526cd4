-- SparseGPT (Frantar, Alistarh 2023): columns go left to right, and those behind make up for what goes. U is the upper
-- Cholesky factor of the damped inverse Hessian: its row j is what pruning column j asks of the columns behind it.
local lc = require "lacuna"
local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, samples = 128, sparsity = 0.5, block = 128, damp = 0.01,
  toy = { length = 32, samples = 8, block = 16 },
}
--- Prunes W (O, I) in place, with H = 2 / windows times the sum of x x^T.
local function solve(W, H, sparsity, block, damp)
  local I, dead = W.shape[2], H:diagonal():eq(0)
  W:masked_fill_(dead, 0)
  H = H + (dead * 1.0):diag()
  H = H + lc.eye(I) * (damp * H:diagonal():mean())
  local U = H:cholesky():cholesky_inverse():cholesky { upper = true }:to(W.dtype)
  for first = 1, I, block do
    local last = math.min(first + block - 1, I)
    local w, u, E = W { {}, { first, last } }, U { { first, last }, { first, last } }, {}
    local n = w:numel()
    local pruned = 1 - (w / u:diagonal()):square():keep(n - math.floor(sparsity * n), { scope = "all" })
    for j = 1, #u do
      E[j] = w { {}, j } * pruned { {}, j } / u[j][j]
      w { {}, { j, -1 } }:sub_(E[j]:outer(u[j] { { j, -1 } }))
    end
    w:masked_fill_(pruned:eq(1), 0)
    if last < I then W { {}, { last + 1, I } }:sub_(lc.stack(E, 2):matmul(U { { first, last }, { last + 1, I } })) end
  end
end
local run, model = lc.run { name = "sparsegpt", params = p }, lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
run:stage("prune", { model = model }, function()
  for layer, stats in lc.calibrate(model:linears(), train:sample(p.samples)) do
    solve(layer.weight:detach(), stats.H * (2 / p.samples), p.sparsity, p.block, p.damp)
  end
  lc.mask.of(model):hold()
end)
run:log { sparsity = model:sparsity(), perplexity = model:perplexity(test) }
run:table { columns = { "perplexity", "sparsity" } }
run:save(model, "pruned")
return { solve = solve }
