--- What GPT-2 124M (random weights) reaches of this machine: arithmetic beside the largest product, generation beside
-- reading memory. Each line is one figure and what bounds it.

local lc = require "lacuna"
local system = require "lacuna.core.system"

--- Least seconds of `repeats` calls, after one that allocates, and the multiply-adds of one.
local function best(repeats, fn)
  fn()
  local least, macs = math.huge, 0
  for _ = 1, repeats do
    local start, before = system.clock(), system.macs()
    fn()
    least, macs = math.min(least, system.clock() - start), system.macs() - before
  end
  return least, macs
end

local function line(what, format, ...)
  print(("%-42s " .. format):format(what, ...))
  io.stdout:flush()
end

local square = lc.randn { 3072, 3072 }
local seconds, macs = best(5, function() square:matmul(square) end)
local roof = 2e-9 * macs / seconds
line("f32 product of 3072 x 3072, the roof", "%8.1f GFLOP/s", roof)

local numbers = lc.randn { 64 << 20 }
local bandwidth = 4e-9 * numbers:numel() / best(5, function() numbers:sum() end)
line("reading 256 MiB", "%8.1f GB/s", bandwidth)
numbers = nil
collectgarbage()

local function arithmetic(what, tokens, repeats, fn)
  local took, done = best(repeats, fn)
  local rate = 2e-9 * done / took
  line(what, "%8.1f GFLOP/s  %3.0f%% of the roof  %7.0f tokens/s  %6.0f ms", rate, 100 * rate / roof, tokens / took,
    took * 1e3)
end

local model = lc.model { family = "gpt2", resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0 }
for _, length in ipairs { 256, 64 } do
  local ids = lc.randint(0, 50257, { 4, length })
  local batch = { ids = ids, labels = ids }
  arithmetic(("evaluation, B = 4, T = %d"):format(length), 4 * length, 3, function()
    lc.no_grad(function() return model:loss(batch):item() end)
  end)
  local steps = lc.optim.adamw { params = model:parameters(), lr = 1e-5 }
  arithmetic(("training step, B = 4, T = %d, AdamW"):format(length), 4 * length, 3, function()
    model:loss(batch, { train = true }):backward()
    lc.clip(model:parameters(), 1)
    steps:step()
  end)
end

local prompt, tokens = {}, 32
for i = 1, 16 do prompt[i] = 7 * i end
local took = best(2, function() model:generate(prompt, { tokens = tokens, temperature = 0 }) end)
local weights = 0
for _, p in pairs(model:parameters()) do weights = weights + p:detach():numel() end
weights = weights - model:parameter("transformer.wpe.weight"):detach():numel() -- of these one row is read
local read = 4e-9 * weights * tokens / took
line("greedy generation, one token at a time", "%8.1f GB/s     %3.0f%% of reading  %8.1f tokens/s", read,
  100 * read / bandwidth, tokens / took)
