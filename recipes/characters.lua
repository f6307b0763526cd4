-- Character-level training of a small GPT-2 on tiny Shakespeare, with the settings that nanoGPT documents for a CPU.
-- docs/results.md has its curve beside PyTorch's (tests/bench/characters.py trains the same model on the same text).
--
--   LACUNA_DATA=... lacuna recipes/characters.lua [--source NAME] [--steps N]
local lc = require "lacuna"

local p = lc.params {
  source = "tinyshakespeare/input", steps = 2000, every = 250, batch = 12, length = 64, lr = 1e-3,
  hidden_size = 128, layers = 4, heads = 4, heldout = 400,
  help = { source = "text under LACUNA_DATA; bytes are its characters", every = "steps between measurements",
    heldout = "windows of the last tenth that the loss is measured on" },
  toy = { steps = 20, every = 10, length = 32, hidden_size = 32, layers = 2, heads = 2, heldout = 8 },
}

local run = lc.run { name = "characters", params = p }
local tokenizer = lc.tokenizer.bytes()
local train, rest = lc.dataset { tokenizer = tokenizer, source = p.source, length = p.length }:split(0.9)
local test = rest:sample(math.min(p.heldout, #rest))
local model = lc.model {
  family = "gpt2", tokenizer = tokenizer, n_positions = p.length,
  n_embd = p.hidden_size, n_layer = p.layers, n_head = p.heads,
  resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0,
}

run:stage("train", { model = model }, function()
  lc.train(model, train, {
    steps = p.steps, batch = p.batch, lr = p.lr, betas = { 0.9, 0.99 }, weight_decay = 0.1,
    warmup = math.min(100, p.steps // 10), lr_schedule = "cosine", eval = test, eval_every = p.every, run = run,
  })
end)
run:table { columns = { "step", "eval" }, where = function(row) return row.eval end }
run:plot { x = "step", y = "eval", where = function(row) return row.eval end }
print(model:generate("ROMEO:", { tokens = p.length - 8, temperature = 0.8, top_k = 50, seed = 1 }))
