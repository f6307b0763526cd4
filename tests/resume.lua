-- The recipe that tests/spec/resume_spec.lua kills: stages, loops with and without a body, dropout, held masks, both
-- optimizers, run.state, an evaluation, and checkpoints every other step.

local lc = require "lacuna"

local words = {}
for i = 1, 900 do
  local at = i * 7 % 40 + 1
  words[i] = ("the quick brown fox jumps over the lazy dog"):sub(at, at + i % 5)
end
local data = lc.dataset { tokenizer = lc.tokenizer.bytes(), text = table.concat(words, " "), length = 16 }
local train, test = data:split(0.9)
local model = lc.model {
  family = "gpt2", vocab_size = 257, n_positions = 16, n_embd = 12, n_layer = 2, n_head = 2, seed = 5,
}

local run = lc.run { name = "resume" }
run.state.seen = 0
run:log { sparsity = 0, perplexity = model:perplexity(test) }
for _, sparsity in ipairs { 0.4, 0.7 } do
  run:stage(("prune to %.1f"):format(sparsity), { model = model }, function()
    lc.prune.magnitude(model:linears(), { sparsity = sparsity })
    lc.train(model, train, { steps = 9, batch = 3, accumulate = 2, lr = 1e-2, run = run, save_every = 2, log_every = 3,
      eval = test, eval_every = 4 })
    for t in lc.steps(model, train, { epochs = 0.2, batch = 4, optimizer = "sgd", momentum = 0.9, lr = 1e-2, run = run,
      save_every = 3, keep = 2 }) do
      run.state.seen = run.state.seen + t.tokens
      run.state.norm = model:parameter("transformer.ln_f.weight"):detach() * 1
      if t.step % 2 == 0 then run:log { loss = t.loss, norm = t.grad_norm, noise = lc.randn({ 1 }):item() } end
    end
    run:log { sparsity = model:sparsity(), perplexity = model:perplexity(test), seen = run.state.seen }
  end)
end
lc.train(model, train, { steps = 8, batch = 3, lr = 1e-3, run = run, save_every = 2, keep = 3, log_every = 1 })
run:save(model, "final")
run:log { seen = run.state.seen, state = run.state.norm:sum() }
