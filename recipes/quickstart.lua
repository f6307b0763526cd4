-- Train a small GPT-2 on real text, then prune it by magnitude in rounds, tuning what is left under the held mask.
-- A dense twin is tuned for as long: what pruning costs is the distance to the twin, not to where tuning began.
--
--   lacuna recipes/quickstart.lua [--text FILE] [--steps N] [--tune N] [--seed N] [--help]
local lc = require "lacuna"

local p = lc.params {
  text = "data/bible.txt", vocabulary = 2048, length = 128, hidden_size = 256, layers = 4, heads = 4, heldout = 48,
  steps = 560, batch = 4, lr = 1e-3, tune = 60, tune_lr = 3e-4, sparsities = { 0.5, 0.75, 0.9 },
  prompt = "And the king said",
  help = {
    text = "plain text to learn from; `make quickstart` extracts the King James Bible",
    vocabulary = "tokens of the BPE vocabulary that is trained on the text", length = "tokens in a window",
    heldout = "windows of unseen text that perplexity is measured on",
    steps = "optimizer steps of training from scratch", tune = "steps of tuning after each round of pruning",
    sparsities = "what to prune to, round by round",
  },
  toy = { steps = 40, tune = 4, vocabulary = 300, length = 32, hidden_size = 32, layers = 2, heads = 2, heldout = 8 },
}

local run = lc.run { name = "quickstart", params = p }
local tokenizer = lc.tokenizer.train { file = p.text, vocab_size = p.vocabulary }
local train, rest = lc.dataset { tokenizer = tokenizer, file = p.text, length = p.length }:split(0.95)
local test = rest:sample(p.heldout)

local model = lc.model {
  family = "gpt2", tokenizer = tokenizer, n_positions = p.length, n_embd = p.hidden_size, n_layer = p.layers,
  n_head = p.heads, resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0,
}
print(model)
print(("%d windows of %d tokens to learn from, %d held out\n"):format(#train, p.length, #test))

local function sample()
  return p.prompt .. model:generate(p.prompt, { tokens = p.length // 2, temperature = 0.7, top_k = 40, seed = 1 })
end

-- Both models see the same text in the same order, other text in each round.
local function tune(which, round)
  lc.train(which, train, { steps = p.tune, batch = p.batch, lr = p.tune_lr, seed = round, run = run })
  return (which:perplexity(test))
end

local dense_sample = run:stage("train", { model = model }, function()
  local options = { steps = p.steps, batch = p.batch, lr = p.lr, warmup = p.steps // 20, run = run }
  for t in lc.steps(model, train, options) do
    if t.step == p.steps // 20 + 1 then run:log { early = model:perplexity(test) } end
  end
  local perplexity = model:perplexity(test)
  run:log { sparsity = 0.0, pruned = perplexity, tuned = perplexity, dense = perplexity }
  return sample()
end)

local twin = model:clone()
for round, sparsity in ipairs(p.sparsities) do
  run:stage(("prune to %g"):format(sparsity), { model = model, twin = twin }, function()
    lc.prune.magnitude(model:linears(), { sparsity = sparsity })
    local pruned = model:perplexity(test)
    run:log { sparsity = model:sparsity(model:linears()), pruned = pruned, tuned = tune(model, round),
      dense = tune(twin, round) }
    run:save(model, ("sparsity-%g"):format(sparsity))
  end)
end

print "\nheld-out perplexity: just pruned, tuned under the mask, and a dense model tuned for as long"
run:table { columns = { "sparsity", "pruned", "tuned", "dense" }, where = function(row) return row.sparsity end }
local plot = run:plot {
  x = "sparsity", y = { "pruned", "tuned", "dense" }, where = function(row) return row.sparsity end, scale = "log",
  label = "held-out perplexity", file = "perplexity",
}
print(("\ndense:      %s\n\n%.0f%% pruned: %s\n"):format(dense_sample, 100 * model:sparsity(model:linears()), sample()))

local early, at_half
for _, row in ipairs(run:rows()) do
  early = row.early or early
  if row.tuned and math.abs(row.sparsity - 0.5) < 0.01 then at_half = row end
end
if at_half then
  run:claim("at 50%, tuned is within 10% of the dense model tuned for as long", at_half.tuned <= 1.1 * at_half.dense)
  run:claim("training at least halved the perplexity of its first 5% of steps", at_half.dense <= early / 2)
end
print(("\nthe run is in %s: %s and sparsity-*, which transformers loads"):format(run.dir, plot or "table.txt"))
