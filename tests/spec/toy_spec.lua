-- --toy: which family stands in for a model, by its name; and that it is small and fresh.

local toy = require "lacuna.toy"

local families = {
  ["gpt2"] = "gpt2",
  ["a directory/of mine"] = "gpt2",
  ["optimum/adopted"] = "gpt2",
  ["facebook/opt-125m"] = "opt",
  ["OPT_350M"] = "opt",
  ["EleutherAI/pythia-70m"] = "gpt_neox",
  ["EleutherAI/gpt-neox-20b"] = "gpt_neox",
  ["Qwen/Qwen2.5-0.5B"] = "qwen2",
  ["meta-llama/Llama-3.2-1B"] = "llama",
  ["models/SmolLM2-135M-Instruct.gguf"] = "llama",
  ["stories260K.bin"] = "llama",
}

describe("--toy", function()
  for name, family in pairs(families) do
    it(("stands a tiny %s in for '%s'"):format(family, name), function()
      local model = toy.load(name)
      local text = toy.dataset { model = model, source = "wikitext2/train" }
      assert.equal(family, model.family)
      local weights = 0
      for _, p in pairs(model:parameters()) do weights = weights + p:numel() end
      assert(weights < 50000, weights)
      local loss = model:loss(text[1])
      assert(math.abs(loss:item() - math.log(256)) < 0.5, loss:item())
    end)
  end
end)
