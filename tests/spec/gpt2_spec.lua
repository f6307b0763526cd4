-- GPT-2 against transformers: tiny models of odd sizes made by tests/golden/gpt2.py. For each tensor
-- max|a - b| <= 1e-4 max|b| in f32, 1e-8 in f64.

local lc = require "lacuna"

local function golden(name) return "tests/golden/gpt2_" .. name end

local function open(name) return lc.io.open(golden(name) .. "/expected.safetensors") end

-- The largest difference over the largest number expected.
local function error_of(got, expected)
  assert.same(expected.shape, got.shape)
  local difference = (got - expected):abs():max():item()
  assert.equal(difference, difference, "NaN")
  return difference / expected:abs():max():item()
end

local function assert_near(expected, got, tolerance, what)
  local worst = error_of(got:detach(), expected)
  assert(worst <= tolerance, ("%s: error %g, at most %g allowed"):format(what, worst, tolerance))
end

-- Key biases have a true gradient of zero: in both the middle third of the q, k, v bias is rounding.
local function assert_gradient(expected, p, tolerance)
  local got = p.grad
  if p.name:find "c_attn.bias$" then
    local third = got.shape[1] // 3
    local keys = { third + 1, 2 * third }
    assert(got { keys }:abs():max():item() < 1e-6, p.name)
    got, expected = got:clone(), expected:clone()
    got { keys }:zero_()
    expected { keys }:zero_()
  end
  assert_near(expected, got, tolerance, p.name .. ".grad")
end

local function check(name, options, prefix, tolerance, gradients)
  local model, file = lc.load(golden(name), options), open(name)
  local batch = { ids = file.ids, labels = file.labels }
  assert_near(file[prefix .. "logits"], model:logits(file.ids), tolerance, "logits")
  local loss, logits = model:loss(batch, { logits = true })
  assert_near(file[prefix .. "loss"], loss, tolerance, "loss by logits")
  assert_near(file[prefix .. "logits"], logits, tolerance, "logits of the loss")
  loss = model:loss(batch)
  assert_near(file[prefix .. "loss"], loss, tolerance, "loss")
  if not gradients then return end
  loss:backward()
  for _, p in ipairs(model:parameters()) do assert_gradient(file[prefix .. "grad." .. p.name], p, tolerance) end
end

describe("GPT-2 gives transformers' numbers", function()
  it("at its defaults: logits, loss with ignored labels, every gradient", function()
    check("plain", nil, "", 1e-4, true)
  end)

  it("with n_inner, exact GELU, an untied head, scaling by layer, another epsilon", function()
    check("variants", nil, "", 1e-4, true)
  end)

  it("in f64", function() check("variants", { dtype = "f64" }, "f64.", 1e-8, true) end)

  it("from an old bf16 file: no prefix, stored causal masks; relu, attention not scaled", function()
    check("old", nil, "", 1e-4)
  end)

  it("from three shards in f16; one head, one layer, silu", function() check("sharded", nil, "", 1e-4) end)

  it("under padding masks on either side", function()
    local model, file = lc.load(golden "plain"), open "plain"
    for _, side in ipairs { "right", "left" } do
      local mask = file[side]
      local kept = mask:ne(0):unsqueeze(-1)
      local logits = model:logits(file.ids, { attention_mask = mask })
      assert_near(file[side .. ".logits"] * kept, logits * kept, 1e-4, side .. " logits")
      local loss = model:loss { ids = file.ids, attention_mask = mask } -- labels are the ids, padding left out
      assert_near(file[side .. ".loss"], loss, 1e-4, side .. " loss")
    end
  end)

  it("with token types", function()
    local model, file = lc.load(golden "plain"), open "plain"
    assert_near(file["types.logits"], model:logits(file.ids, { token_type_ids = file.types }), 1e-4, "logits")
  end)

  it("generating greedily, alone and as a batch padded on the left", function()
    local model, file = lc.load(golden "plain"), open "plain"
    local prompts = { file.ids[1] { { 1, 3 } }:tolist(), file.ids[2] { { 1, 7 } }:tolist() }
    local expected = { file["generated.1"]:tolist(), file["generated.2"]:tolist() }
    local options = { tokens = 9, stop = false }
    assert.same(expected, model:generate(prompts, options))
    assert.same(expected[1], model:generate(prompts[1], options))
    assert.same(expected[2], model:generate(prompts[2], options))
  end)
end)
