-- Distillation under a held mask: the dense model teaches its own pruned copy.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, sparsity = 0.6, steps = 200, batch = 4, lr = 5e-5,
  temperature = 2.0, alpha = 0.9,
  help = { alpha = "share of the teacher in the loss; the rest is the text's own" },
  toy = { steps = 40, lr = 1e-3 },
}
local run = lc.run { name = "distill", params = p }
local teacher = lc.load(p.model)
local train = lc.dataset { model = teacher, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = teacher, source = p.text .. "/test", length = p.length }

if p.toy then -- a fresh model knows nothing that it could teach
  run:stage("school", { teacher = teacher }, function()
    lc.train(teacher, train, { steps = 120, lr = 3e-3, run = run })
  end)
end
local student = teacher:clone()
local mask = lc.prune.magnitude(student:linears(), { sparsity = p.sparsity })
run:log { model = "teacher", sparsity = 0, perplexity = teacher:perplexity(test) }
run:log { model = "pruned", sparsity = mask:sparsity(), perplexity = student:perplexity(test) }

run:stage("distill", { student = student }, function()
  lc.train(student, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run, save_every = 50,
    objective = lc.distill(student, teacher, { temperature = p.temperature, alpha = p.alpha }) })
end)
run:log { model = "student", sparsity = student:sparsity(), perplexity = student:perplexity(test),
  violations = mask:violations(student) }
run:save(student, "student")
run:table { columns = { "perplexity", "sparsity", "model" } }
