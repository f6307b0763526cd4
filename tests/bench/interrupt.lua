--- How long Ctrl-C waits for its answer inside a training step, pruning and saving of a GPT-2 of real widths: 100 ms
-- asked, on a machine that does nothing else.

local lc = require "lacuna"
local system = require "lacuna.core.system"
local test = require "lacuna.core.test"

local INSTANTS = 20

local model = lc.model { family = "gpt2", n_embd = 768, n_layer = 2, n_head = 12, vocab_size = 50257 }
local ids = lc.randint(0, 50257, { 4, 128 })
local batches = { { ids = ids, labels = ids } }
local directory = os.tmpname()
os.remove(directory)

local work = {
  { "training step", function() lc.train(model, batches, { steps = 1 }) end },
  { "pruning", function() lc.prune.magnitude(model:linears(), { sparsity = 0.5 }) end },
  { "saving", function() model:save(directory) end },
}

--- Seconds from the signal until the call has ended; nil when it ended before.
local function answer_time(fn, delay)
  local start = system.clock()
  test.interrupt_after(delay)
  local finished = pcall(function()
    fn()
    test.interrupt_after(0)
  end)
  return not finished and system.clock() - start - delay or nil
end

for _, job in ipairs(work) do
  local name, fn = job[1], job[2]
  local start = system.clock()
  fn()
  local duration = system.clock() - start
  local longest, count = 0, 0
  for i = 1, INSTANTS do
    local seconds = answer_time(fn, duration * i / (INSTANTS + 1))
    if seconds then longest, count = math.max(longest, seconds), count + 1 end
  end
  print(("Ctrl-C inside %-14s takes %6.0f ms; answered within %5.1f ms at %d instants"):format(
    name, duration * 1e3, longest * 1e3, count))
end
os.execute("rm -r " .. directory)
