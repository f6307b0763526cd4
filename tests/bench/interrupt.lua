--- How long Ctrl-C waits for its answer in each phase of work on GPT-2 124M (random weights, B = 4, T = 256): 100 ms
-- asked, on a machine that does nothing else.

local lc = require "lacuna"
local system = require "lacuna.core.system"
local test = require "lacuna.core.test"
local temporary = dofile "tests/temporary.lua"

local INSTANTS = tonumber(arg and arg[1]) or 10

local model = lc.model { family = "gpt2", resid_pdrop = 0, embd_pdrop = 0, attn_pdrop = 0 }
local ids, few = lc.randint(0, 50257, { 4, 256 }), lc.randint(0, 50257, { 1, 8 })
local batch, small = { ids = ids, labels = ids }, { ids = few, labels = few }
local optimizer = lc.optim.adamw { params = model:parameters(), lr = 1e-5 }
local directory = temporary()

--- Each gives the function that is interrupted; what comes before it is not.
local phases = {
  { "forward", function()
    return function() return model:loss(batch, { train = true }) end
  end },
  { "backward", function()
    for _, p in pairs(model:parameters()) do p.grad = nil end
    local loss = model:loss(batch, { train = true })
    return function() loss:backward() end
  end },
  { "update", function()
    for _, p in pairs(model:parameters()) do p.grad = nil end
    model:loss(small, { train = true }):backward()
    return function() optimizer:step() end
  end },
  { "prune", function()
    return function() lc.prune.magnitude(model:linears(), { sparsity = 0.5, hold = false }) end
  end },
  { "save", function()
    return function() model:save(directory) end
  end },
  { "load", function()
    model:save(directory)
    return function() lc.load(directory) end
  end },
}

--- Seconds from the signal until the call has ended; nil when it ended before.
local function answer_time(fn, delay)
  local start = system.clock()
  local finished = pcall(function()
    test.interrupt_after(math.max(delay, 1e-6))
    fn()
    test.interrupt_after(0)
  end)
  return not finished and math.max(0, system.clock() - start - delay) or nil
end

local function milliseconds(seconds)
  return seconds and ("%8.1f"):format(seconds * 1e3) or "       -"
end

print(("%-10s %8s %10s %8s %8s"):format("Ctrl-C in", "takes ms", "median ms", "worst ms", "instants"))
for _, phase in ipairs(phases) do
  local name, prepare = phase[1], phase[2]
  prepare()() -- the first call asks the system for memory
  local fn = prepare()
  local start = system.clock()
  fn()
  local duration, answers = system.clock() - start, {}
  for i = 1, INSTANTS do
    answers[#answers + 1] = answer_time(prepare(), duration * (i - 0.5) / INSTANTS)
  end
  table.sort(answers)
  print(("%-10s %8.0f   %s %s %8d"):format(name, duration * 1e3, milliseconds(answers[(#answers + 1) // 2]),
    milliseconds(answers[#answers]), #answers))
  io.stdout:flush()
end
os.execute("rm -r " .. directory)
