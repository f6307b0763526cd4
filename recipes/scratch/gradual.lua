-- Gradual magnitude pruning with regrowth (Zhu, Gupta 2017): sparsity rises by a cubic ramp while the model trains.
-- Held weights are ranked again each time, by the value that they had; what has become the larger comes back.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, sparsity = 0.8, every = 10, steps = 400, batch = 4, lr = 5e-5,
  help = { sparsity = "at the end of the ramp", every = "steps between prunings" },
  toy = { steps = 40, every = 4, lr = 3e-3 },
}
local run = lc.run { name = "gradual", params = p }
local model = lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
local ramp = lc.ramp { { 0, 0.1 }, { p.sparsity, 0.8 }, curve = "cubic" }

for t in lc.steps(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run, save_every = 100 }) do
  if t.step % p.every == 0 then
    t:update()
    local before = lc.mask.of(model)
    local wanted = ramp:at(t.progress)
    local mask = lc.prune.magnitude(model:linears(), { sparsity = wanted, regrow = true, keep_values = true })
    local others, weights = (mask & ~before):count() -- kept now and zero before: all that is not pruned here
    local regrown = weights - others
    run:log { step = t.step, loss = t.loss, wanted = wanted, sparsity = mask:sparsity(), regrown = regrown }
  end
end
run:log { sparsity = model:sparsity(), perplexity = model:perplexity(test) }
run:table { columns = { "sparsity", "wanted", "regrown", "loss", "perplexity" } }
run:plot { x = "step", y = "sparsity" }
run:save(model, "pruned")
