-- Ways of pruning beside each other: methods x sparsities and n:m patterns x models, each from the dense model, and
-- tuned under the held mask if --steps says so. The dense model, tuned with the same budget, is a row too.
--
--   LACUNA_DATA=... lacuna recipes/compare_pruning.lua [--models NAME,NAME] [--methods wanda,sparsegpt]
--       [--sparsities 0.5,0.7] [--patterns 2:4] [--steps N] [--resume] [--help]
--
-- The run's directory gets comparison.csv, linear and logarithmic plots (over the sparsity, and for patterns over the
-- width of their groups, a curve for each sparsity), and each model's continuation of the prompt.
local lc = require "lacuna"

local p = lc.params {
  models = { "facebook/opt-125m" }, methods = { "random", "magnitude", "wanda", "ria", "sparsegpt", "alps" },
  sparsities = { 0.5, 0.6, 0.7 }, patterns = { "2:4", "4:8" },
  calibrate = "wikitext2/train", train = "wikitext2/train", test = "wikitext2/test", join = "rows",
  samples = 128, length = 512, steps = 0, batch = 16, lr = 2e-5, protocol = "windows", windows = 0,
  prompt = "The city was founded in", tokens = 40,
  help = {
    models = "names, directories or .gguf files, separated by commas", methods = "separated by commas",
    sparsities = "separated by commas; --sparsities= for none", patterns = "n:m: n of m stay; --patterns= for none",
    calibrate = "text under LACUNA_DATA that the methods look at", train = "text to tune on",
    join = "rows as WikiText is published, or plain text", samples = "windows of calibration text",
    length = "tokens in a window of training text", steps = "optimizer steps of tuning; 0 is none",
    protocol = "of perplexity", windows = "of the test text that are measured; 0 is all",
    prompt = "to continue before and after", tokens = "of the continuation",
  },
  choices = {
    join = { "rows", "plain" }, protocol = { "windows", "strided" },
    methods = { "random", "magnitude", "wanda", "ria", "sparsegpt", "alps" },
  },
  toy = { sparsities = { 0.5 }, patterns = { "2:4" }, samples = 8, steps = 2, batch = 4, lr = 1e-3, tokens = 16 },
}

local targets = {}
for _, sparsity in ipairs(p.sparsities) do targets[#targets + 1] = { sparsity = sparsity } end
for _, pattern in ipairs(p.patterns) do targets[#targets + 1] = { pattern = pattern } end

--- A model with its texts.
local function open(name)
  local dense = lc.load(name)
  local calibration = lc.dataset { model = dense, source = p.calibrate, join = p.join, length = p.length }
  return dense, calibration:sample(p.samples, { seed = 1 }),
    lc.dataset { model = dense, source = p.train, join = p.join, length = p.length },
    lc.dataset { model = dense, source = p.test, join = p.join }
end

-- Texts that are missing, and patterns and windows that do not fit, are better told now than hours into the work.
for _, name in ipairs(p.models) do
  local model <close> = open(name)
  for _, pattern in ipairs(p.patterns) do
    lc.prune.magnitude(model:linears(), { pattern = pattern, apply = false })
  end
end

local run = lc.run { name = "compare-pruning", params = p }
for i, name in ipairs(p.models) do
  local dense, sample, train, test = open(name)

  local function measure(model)
    return (model:perplexity(test, { protocol = p.protocol, windows = p.windows }))
  end

  local function continue(model, tag)
    run:text(tag .. ".txt", p.prompt .. model:generate(p.prompt, { tokens = p.tokens }) .. "\n")
  end

  --- One row: a copy of the dense model, pruned if there is a method, measured, tuned, measured.
  local function try(method, target)
    local model <close> = dense:clone()
    local mask = method and lc.prune[method](model:linears(), sample, target) or lc.mask.held(model)
    local row = { model = name, method = method or "dense", pattern = target.pattern, requested = mask.requested,
      sparsity = mask:sparsity(), perplexity = measure(model) }
    if target.pattern then -- for the plots
      row.group = tonumber(target.pattern:match ":(%d+)")
      row.curve = ("%s, %g%%"):format(method, 100 * mask.requested)
    end
    local tag = method and ("%d-%s-%s"):format(i, method, target.pattern or target.sparsity) or ("%d-dense"):format(i)
    continue(model, tag)
    if p.steps > 0 then
      lc.train(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run })
      row.tuned = measure(model)
      continue(model, tag .. "-tuned")
    end
    run:log(row)
  end

  run:stage(name .. ", dense", {}, function() try(nil, {}) end)
  for _, target in ipairs(targets) do
    for _, method in ipairs(p.methods) do
      run:stage(("%s, %s, %s"):format(name, method, target.pattern or target.sparsity), {}, function()
        try(method, target)
      end)
    end
  end
end

run:table { file = "comparison.csv",
  columns = { "model", "method", "pattern", "requested", "sparsity", "perplexity", "tuned" } }
for i, name in ipairs(p.models) do
  local function plot(y, scale, x, by, patterns)
    run:plot { x = x, y = y, by = by, label = ("%s, %s"):format(y, name), scale = scale,
      where = function(row) return row.model == name and (row.pattern ~= nil) == patterns end,
      file = ("%d-%s%s-%s"):format(i, y, patterns and "-patterns" or "", scale) }
  end
  for _, y in ipairs { "perplexity", p.steps > 0 and "tuned" or nil } do
    for _, scale in ipairs { "linear", "log" } do
      plot(y, scale, "sparsity", "method", false)
      if #p.patterns * #p.methods > 0 then plot(y, scale, "group", "curve", true) end
    end
  end
end
