-- Loading checkpoints: a head that is there twice, and what a directory may lack or have in another way.

local cli = require "tests.cli"
local files = require "lacuna.core.files"
local lc = require "lacuna"
local temporary = dofile "tests/temporary.lua"
local tiny = dofile "tests/tiny.lua"

local directory
setup(function()
  directory = temporary(".load")
  files.make_dirs(directory)
end)
teardown(function() files.remove_tree(directory) end)

local function path(name) return directory .. "/" .. name end

local function distance(a, b) return (a - b):abs():max():item() end

--- A tied model of each family.
local function tied(family)
  if family == "gpt2" then return tiny.gpt2 {} end
  return tiny.decoder(family, { tie_word_embeddings = true })
end

--- The tensors of a saved model, through `change`, written over its file.
local function rewrite(at, change)
  local tensors = {}
  for name, t in pairs(lc.io.open(at .. "/model.safetensors")) do tensors[name] = t end
  change(tensors)
  lc.io.save(at .. "/model.safetensors", tensors)
end

local families = { gpt2 = "lm_head", llama = "lm_head", qwen2 = "lm_head", gpt_neox = "embed_out", opt = "lm_head" }
local ids = { { 1, 5, 7, 2, 9, 30 } }

describe("a head that config.json ties to the embedding", function()
  for family, head in pairs(families) do
    it("of " .. family .. " may be in the file too, alone or beside the embedding", function()
      local model, at = tied(family), path(family)
      model:save(at)
      local embedding = model:parameter(head .. ".weight")
      rewrite(at, function(t) t[head .. ".weight"] = embedding end)
      local both = lc.load(at)
      assert.equal(0, distance(model:logits(ids), both:logits(ids)))
      assert.equal(#model:parameters(), #both:parameters())
      rewrite(at, function(t)
        for name in pairs(t) do
          if t[name].shape[1] == 53 and name ~= head .. ".weight" then t[name] = nil end
        end
      end)
      assert.equal(0, distance(model:logits(ids), lc.load(at):logits(ids)))
    end)

    it("of " .. family .. " and has other numbers is used, and said", function()
      local model, at = tied(family), path(family .. "_other")
      model:save(at)
      local embedding = model:parameter(head .. ".weight"):detach()
      rewrite(at, function(t) t[head .. ".weight"] = embedding * 2 end)
      local result = cli.shell(([[%s -e '
        local lc = require "lacuna"
        local model = lc.load "%s"
        print(#model:parameters())
        model:save "%s"
        lc.load "%s"']]):format(cli.program, at, at .. "_saved", at .. "_saved"))
      assert.equal(("%d\n"):format(#model:parameters() + 1), result.out)
      assert.equal(("lacuna: warning: %s: config.json ties the head to the embedding, but the file has a head with "
        .. "other numbers: it is used, and tie_word_embeddings is false now\n"):format(at), result.err)
      assert.is_true(distance(model:logits(ids) * 2, lc.load(at .. "_saved"):logits(ids)) < 1e-5)
    end)
  end

  it("and has another shape is refused", function()
    local at = path "shape"
    tiny.decoder("llama", { tie_word_embeddings = true }):save(at)
    rewrite(at, function(t) t["lm_head.weight"] = lc.ones { 50, 18 } end)
    assert.error_matches(function() lc.load(at) end, "lm_head.weight is (50, 18), not (53, 18)", nil, true)
  end)
end)
