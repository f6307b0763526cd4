-- Movement pruning (Sanh, Wolf, Rush 2020): what stays is learned. Each weight has a score; the forward pass uses the
-- weights with the top scores, and the backward pass gives every score dL/dw' w, as if the mask were the score.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, sparsity = 0.7, steps = 400, batch = 4, lr = 5e-5, score_lr = 1e-2,
  toy = { steps = 40, lr = 1e-3 },
}

--- w where its score is among the top (1 - sparsity).
local masked = lc.func {
  forward = function(ctx, w, scores, sparsity)
    local keep = scores:keep(scores:numel() - math.floor(sparsity * scores:numel()), { scope = "all" })
    ctx:save(w, keep)
    return w * keep
  end,
  backward = function(ctx, dy)
    local w, keep = ctx:saved()
    return dy * keep, dy * w
  end,
}

local run, model = lc.run { name = "movement", params = p }, lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local test = lc.dataset { model = model, source = p.text .. "/test", length = p.length }
local ramp, handles, scores = lc.ramp { { 0, 0.1 }, { p.sparsity, 0.7 }, curve = "cubic" }, {}, {}
for _, layer in ipairs(model:linears()) do
  handles[layer] = layer:transform(function(w, s) return masked(w, s.scores, ramp:at(s.progress)) end,
    { params = { scores = lc.zeros(layer.weight.shape) }, name = "movement" })
  scores[#scores + 1] = handles[layer].scores
end

lc.train(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run, save_every = 100, log_every = 10,
  groups = { { params = scores, lr = p.score_lr, weight_decay = 0 } } })
local mask = lc.prune.by(model:linears(), nil, function(layer) return handles[layer].scores:detach() end,
  { sparsity = p.sparsity })
for _, handle in pairs(handles) do handle:remove() end
run:log { sparsity = mask:sparsity(), perplexity = model:perplexity(test) }
run:table { columns = { "perplexity", "sparsity" } }
return { masked = masked, handles = handles, mask = mask }
