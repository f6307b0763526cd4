-- Per-step pruning: in each step the parameters with the largest weight norm get no gradient and stay as they are.
-- Their weight gradients are not computed, so a step costs less.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, share = 0.5, steps = 200, batch = 4, lr = 5e-5,
  help = { share = "of the parameters, left out in each step" },
  toy = { steps = 30, lr = 1e-3 },
}
local run = lc.run { name = "per-step", params = p }
local model = lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }

run:log { step = 0, perplexity = model:perplexity(test) }
for t in lc.steps(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run }) do
  local largest = lc.rank(model:parameters(), "weight_l2"):top(p.share)
  t:skip(largest)
  run:log { step = t.step, loss = t.loss, macs = t.macs, dense_macs = t.dense_macs, skipped = #largest }
end
run:log { step = p.steps, perplexity = model:perplexity(test) }
run:plot { x = "step", y = "loss" }
run:table { columns = { "perplexity", "step" } }
