-- SparseGPT (Frantar, Alistarh 2023): columns go left to right, and those behind make up for what goes. Row j of U,
-- U^T U = H^-1, is what pruning column j asks of them. U is R^-1 for R R^T = H: Cholesky's factor from the last row up.
local lc = require "lacuna"
local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, samples = 128, sparsity = 0.5, block = 128, damp = 0.01,
  toy = { length = 32, samples = 8, block = 16 },
}
--- Prunes W (O, I) in place, with H = 2 / windows times the sum of x x^T.
local function solve(W, H, sparsity, block, damp)
  local I, eye, dead = W.shape[2], lc.eye(W.shape[2]):to(H.dtype), H:diagonal():eq(0)
  W:masked_fill_(dead, 0)
  H = H + (dead * 1.0):diag()
  H = H + eye * (damp * H:diagonal():mean())
  local U = H:flip(1):flip(2):cholesky():flip(1):flip(2):solve_triangular(eye, { upper = true }):to(W.dtype)
  for first = 1, I, block do
    local last = math.min(first + block - 1, I)
    local w, u = W { {}, { first, last } }:t():clone(), U { { first, last }, { first, last } } -- a column is a row of w
    local n, E = w:numel(), w:zeros_like()
    local pruned = 1 - (w / u:diagonal():unsqueeze(2)):square():keep(n - math.floor(sparsity * n), { scope = "all" })
    for j = 1, #u do
      E[j]:copy_(w[j] * pruned[j] / u[j][j])
      w { { j, -1 } }:addmm_(u { { j, j }, { j, -1 } }:t(), E { { j, j } }, { alpha = -1 })
    end
    W { {}, { first, last } }:copy_(w:masked_fill(pruned:eq(1), 0):t())
    if last < I then W { {}, { last + 1, I } }:addmm_(E:t(), U { { first, last }, { last + 1, I } }, { alpha = -1 }) end
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
