-- One-shot pruning: from the dense model straight to each sparsity, then tuning under the held mask. The dense model,
-- tuned with the same budget, is the first row.
--
--   LACUNA_DATA=... lacuna recipes/oneshot_finetune.lua [--model NAME] [--method wanda] [--sparsities 0.5,0.7]
local lc = require "lacuna"

local p = lc.params {
  model = "facebook/opt-125m", train = "wikitext2/train", test = "wikitext2/test", join = "rows",
  method = "sparsegpt", sparsities = { 0.5, 0.7, 0.9 }, samples = 128, length = 512,
  steps = 500, batch = 16, lr = 2e-5, protocol = "windows", windows = 0,
  help = {
    train = "text under LACUNA_DATA that calibrates and tunes", join = "rows as WikiText is published, or plain text",
    method = "of pruning", samples = "windows of calibration text",
    length = "tokens in a window of training text", steps = "optimizer steps after pruning",
    protocol = "of perplexity", windows = "of the test text that are measured; 0 is all",
  },
  choices = {
    join = { "rows", "plain" }, protocol = { "windows", "strided" },
    method = { "random", "magnitude", "wanda", "ria", "sparsegpt", "alps" },
  },
  toy = { sparsities = { 0.5, 0.8 }, samples = 8, steps = 4, batch = 4, lr = 1e-3 },
}

local prune = lc.prune[p.method]
local run = lc.run { name = "oneshot-finetune", params = p }
local dense = lc.load(p.model)
local train = lc.dataset { model = dense, source = p.train, join = p.join, length = p.length }
local test = lc.dataset { model = dense, source = p.test, join = p.join }

local function measure(model)
  return (model:perplexity(test, { protocol = p.protocol, windows = p.windows }))
end

--- Prunes a copy of the dense model unless sparsity is 0, tunes it, and says what each did.
local function try(sparsity)
  local model <close> = dense:clone()
  local mask = sparsity == 0 and lc.mask.held(model)
    or prune(model:linears(), train:sample(p.samples, { seed = 1 }), { sparsity = sparsity })
  local before = measure(model)
  lc.train(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run })
  run:log { requested = sparsity, sparsity = mask:sparsity(), pruned = before, tuned = measure(model),
    violations = mask:violations(model) }
  run:save(model, ("sparsity-%g"):format(sparsity))
end

run:stage("dense", {}, function() try(0) end)
for _, sparsity in ipairs(p.sparsities) do
  run:stage(("prune to %g"):format(sparsity), {}, function() try(sparsity) end)
end

print(("\nperplexity: just pruned by %s, and tuned for %d steps"):format(p.method, p.steps))
run:table { columns = { "requested", "sparsity", "pruned", "tuned" } }
run:plot { x = "sparsity", y = { "pruned", "tuned" }, scale = "log", label = "perplexity", file = "perplexity" }
