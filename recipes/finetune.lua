-- Tunes pruned models that were saved, each under the mask in its zeros: what is zero stays zero. Any model that
-- lc.load reads will do, whoever pruned it. There may be more zeros than its pruning was asked for: SparseGPT also
-- zeroes the weights of inputs that are 0 throughout its text, and here they stay so.
--
--   LACUNA_DATA=... lacuna recipes/finetune.lua --models runs/a/sparsity-0.5,runs/a/sparsity-0.7 [--steps N]
local lc = require "lacuna"

local p = lc.params {
  models = { "pruned" }, train = "wikitext2/train", test = "wikitext2/test", join = "rows", length = 512,
  steps = 500, batch = 16, lr = 2e-5, protocol = "windows", windows = 0,
  help = {
    models = "directories or names, separated by commas", train = "text under LACUNA_DATA to tune on",
    join = "rows as WikiText is published, or plain text", length = "tokens in a window of training text",
    protocol = "of perplexity", windows = "of the test text that are measured; 0 is all",
  },
  choices = { join = { "rows", "plain" }, protocol = { "windows", "strided" } },
  toy = { models = { "one", "two" }, steps = 4, batch = 4, lr = 1e-3 },
}

local run = lc.run { name = "finetune", params = p }
for i, name in ipairs(p.models) do
  local model = lc.load(name)
  local mask = lc.mask.of(model)
  local train = lc.dataset { model = model, source = p.train, join = p.join, length = p.length }
  local test = lc.dataset { model = model, source = p.test, join = p.join }

  local function measure()
    return (model:perplexity(test, { protocol = p.protocol, windows = p.windows }))
  end

  run:stage(("tune %d, %s"):format(i, name), { model = model }, function()
    mask:hold()
    local before = measure()
    lc.train(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run })
    run:log { model = name, sparsity = mask:sparsity(), before = before, tuned = measure(),
      violations = mask:violations(model) }
    run:save(model, ("%d-%s"):format(i, name:match "[^/]*$"))
  end, { keep = false })
end
run:table { columns = { "model", "sparsity", "before", "tuned", "violations" } }
