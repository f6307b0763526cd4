-- Distillation: the chunked loss and its gradients against the same written in tensor operations.

local lc = require "lacuna"
local tiny = dofile "tests/tiny.lua"

--- alpha T^2 KL + (1 - alpha) cross-entropy from whole logits: shifted, labelled tokens only.
local function plainly(student, teacher, batch, T, alpha)
  local ids, labels = lc.tensor(batch.ids, { dtype = "i64" }), lc.tensor(batch.labels, { dtype = "i64" })
  local last = ids.shape[2]
  local s, t = student:logits(ids) { {}, { 1, last - 1 } }, teacher:logits(ids) { {}, { 1, last - 1 } }
  local kl = lc.loss.kl(s, t, { temperature = T, labels = labels { {}, { 2, last } } })
  return alpha * kl + (1 - alpha) * student:loss(batch)
end

describe("lc.distill", function()
  local batch = tiny.batches(1, 3, 11)[1]
  local teacher = tiny.gpt2 { seed = 1, n_embd = 18, dtype = "f64" }

  it("is what whole logits give, gradients too", function()
    for _, case in ipairs { { 1, 1 }, { 2, 0.5 }, { 3, 0 } } do
      local student = tiny.gpt2 { dtype = "f64" }
      local loss, count = lc.distill(student, teacher, { temperature = case[1], alpha = case[2] })(student, batch)
      loss:backward()
      local got = {}
      for name, p in pairs(student:parameters()) do got[name] = p.grad:flatten():totable() end
      local labelled = 0
      for _, row in ipairs(batch.labels) do
        for c = 2, #row do labelled = labelled + (row[c] ~= -100 and 1 or 0) end
      end
      assert.equal(labelled, count)
      local other = tiny.gpt2 { dtype = "f64" }
      local want = plainly(other, teacher, batch, case[1], case[2])
      want:backward()
      assert.near(want:item(), loss:item(), 1e-10)
      for name, p in pairs(other:parameters()) do
        local gap, scale = 0, 0
        for i, value in ipairs(p.grad:flatten():totable()) do
          gap, scale = math.max(gap, math.abs(value - got[name][i])), math.max(scale, math.abs(value))
        end
        assert.is_true(gap <= 1e-8 * scale + 1e-15, name .. " " .. gap)
      end
    end
  end)

  it("is nothing between a model and its clone", function()
    local student = tiny.gpt2()
    assert.near(0, lc.loss.kl({ student, batch }, { student:clone(), batch }):item(), 1e-6)
  end)

  it("brings the student nearer to its teacher in a loop", function()
    local student, master = tiny.gpt2(), tiny.gpt2 { seed = 3 }
    local before = lc.loss.kl({ student, batch }, { master, batch }):item()
    lc.train(student, { batch }, { steps = 20, lr = 3e-3, objective = lc.distill(student, master, { alpha = 1 }) })
    assert.is_true(lc.loss.kl({ student, batch }, { master, batch }):item() < before)
  end)

  it("refuses models that do not share a vocabulary", function()
    local ok, err = pcall(lc.loss.kl, { tiny.gpt2(), batch }, { tiny.gpt2 { vocab_size = 60 }, batch })
    assert.is_false(ok)
    assert.matches("the student knows 53 tokens and the teacher 60", err)
  end)
end)
