-- PDP (Cho, Adya, Naik 2023): a soft mask from the weights alone, w -> w m with m = sigmoid((|w| - t) / tau), for which
-- the paper squares w and t. t lies between the weights that go and those that stay, so gradients decide near the
-- border; at the end the mask is made hard and held.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, sparsity = 0.7, tau = 1e-2, steps = 400, batch = 4, lr = 5e-5,
  help = { sparsity = "at the end of the ramp", tau = "width of the border, in deviations of the layer's weights" },
  toy = { steps = 40, lr = 1e-3 },
}

--- Between the largest weight that goes and the smallest that stays; below all of them when none goes.
local function threshold(w, share)
  local sizes, k = w:detach():abs():flatten(), math.floor(share * w:numel())
  if k == 0 then return -math.huge end
  return (sizes:kthvalue(k):item() + sizes:kthvalue(math.min(k + 1, w:numel())):item()) / 2
end

local function soft_mask(w, t, tau) return ((w:abs() - t) / tau):sigmoid() end

local run, model = lc.run { name = "pdp", params = p }, lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
local ramp = lc.ramp { { 0, 0.1 }, { p.sparsity, 0.6 }, curve = "cubic" }
local handles = {}
for i, layer in ipairs(model:linears()) do
  local tau = p.tau * layer.weight:detach():std():item()
  handles[i] = layer:transform(function(w, s)
    return w * soft_mask(w, threshold(w, ramp:at(s.progress)), tau)
  end, { name = "pdp" })
end

lc.train(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run, save_every = 100, log_every = 10 })
run:log { soft = model:perplexity(test) }
for _, handle in ipairs(handles) do handle:remove() end
local mask = lc.prune.magnitude(model:linears(), { sparsity = p.sparsity })
run:log { sparsity = mask:sparsity(), hard = model:perplexity(test) }
run:table { columns = { "hard", "sparsity" } }
run:save(model, "pruned")
return { soft_mask = soft_mask, threshold = threshold }
