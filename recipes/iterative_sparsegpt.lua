-- Iterative SparseGPT (Frantar, Alistarh 2023): prune a little, tune the survivors under the held mask, prune again.
-- The dense model, tuned for as long on the same text, stands beside: what pruning costs is the distance to it.
--
--   LACUNA_DATA=... lacuna recipes/iterative_sparsegpt.lua [--model NAME] [--sparsities 0.3,0.5] [--resume] [--help]
local lc = require "lacuna"

local p = lc.params {
  model = "facebook/opt-125m", train = "wikitext2/train", test = "wikitext2/test", join = "rows",
  sparsities = { 0.3, 0.5, 0.7, 0.8, 0.9 }, samples = 128, length = 512,
  block = 128, mask_block = 0, damp = 0.01, epsilon = 0.0,
  steps = 100, batch = 16, lr = 2e-5, protocol = "windows", windows = 0,
  help = {
    train = "text under LACUNA_DATA that calibrates and tunes", join = "rows as WikiText is published, or plain text",
    sparsities = "what to prune to, round by round", samples = "windows of calibration text",
    length = "tokens in a window of training text",
    block = "columns between two updates of the rest",
    mask_block = "columns whose mask is chosen together; 0: those of a block",
    damp = "share of the mean diagonal that is added to the Hessian's", epsilon = "added after that",
    steps = "optimizer steps after each pruning",
    protocol = "of perplexity", windows = "of the test text that are measured; 0 is all",
  },
  choices = { join = { "rows", "plain" }, protocol = { "windows", "strided" } },
  toy = { sparsities = { 0.5, 0.8 }, samples = 8, steps = 4, batch = 4, lr = 1e-3, block = 16, mask_block = 8 },
}

local run = lc.run { name = "iterative-sparsegpt", params = p }
local model = lc.load(p.model)
local dense = model:clone()
local train = lc.dataset { model = model, source = p.train, join = p.join, length = p.length }
local test = lc.dataset { model = model, source = p.test, join = p.join }

local function measure(which)
  return (which:perplexity(test, { protocol = p.protocol, windows = p.windows }))
end

-- Both models see the same text in the same order, other text in each round.
local function tune(which, round)
  lc.train(which, train, { steps = p.steps, batch = p.batch, lr = p.lr, seed = round, run = run })
  return measure(which)
end

run:log { model = "dense", round = 0, sparsity = dense:linears():sparsity(), tuned = measure(dense) }
for round, sparsity in ipairs(p.sparsities) do
  run:stage(("prune to %g"):format(sparsity), { model = model }, function()
    local mask = lc.prune.sparsegpt(model:linears(), train:sample(p.samples, { seed = round }), {
      sparsity = sparsity, block = p.block, mask_block = p.mask_block > 0 and p.mask_block or nil,
      damp = p.damp, epsilon = p.epsilon,
    })
    run:log { model = "pruned", round = round, requested = sparsity, sparsity = mask:sparsity(),
      pruned = measure(model), tuned = tune(model, round), violations = mask:violations(model) }
    run:save(model, ("sparsity-%g"):format(sparsity))
  end)
end
run:stage("tune the dense model", { dense = dense }, function()
  for round in ipairs(p.sparsities) do
    run:log { model = "dense", round = round, sparsity = dense:linears():sparsity(), tuned = tune(dense, round) }
  end
end)

print "\nperplexity: just pruned, and tuned; the dense model tuned for as many rounds"
run:table { columns = { "model", "round", "requested", "sparsity", "pruned", "tuned" } }
run:plot { x = "sparsity", y = { "pruned", "tuned" }, where = { model = "pruned" }, scale = "log", label = "perplexity",
  file = "perplexity" }
run:plot { x = "round", y = "tuned", by = "model", label = "perplexity", file = "beside-dense" }
