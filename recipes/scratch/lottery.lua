-- Lottery tickets with rewinding (Frankle, Dziugaite, Roy, Carbin 2020): train, prune by magnitude, put the survivors
-- back to where they were at step k, and train again from there.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, sparsity = 0.6, k = 50, steps = 400, batch = 4, lr = 5e-5,
  help = { k = "step that the survivors are put back to" },
  toy = { steps = 60, k = 10, lr = 3e-3 },
}
local run = lc.run { name = "lottery", params = p }
local model = lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
local options = { steps = p.steps, batch = p.batch, lr = p.lr, lr_schedule = "linear", run = run, save_every = 50 }

run:stage("to step k", { model = model }, function()
  for t in lc.steps(model, train, options) do
    if t.step == p.k then
      t:update()
      break
    end
  end
end)
local early = model:snapshot()
options.start = p.k

run:stage("dense", { model = model }, function() lc.train(model, train, options) end)
run:log { sparsity = 0, perplexity = model:perplexity(test) }
local mask = lc.prune.magnitude(model:linears(), { sparsity = p.sparsity })
model:restore(early)
run:log { rewound = model:perplexity(test), violations = mask:violations(model) }
run:stage("ticket", { model = model }, function() lc.train(model, train, options) end)
run:log { sparsity = model:sparsity(), perplexity = model:perplexity(test) }
run:table { columns = { "perplexity", "sparsity" } }
run:save(model, "ticket")
