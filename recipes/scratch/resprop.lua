-- ReSprop (Goli, Aamodt 2020): the gradient g of a layer's output changes little from step to step. Keep the last, P,
-- and use ghat = P + D, D being the top share of g - P by size: both backward products then need only D anew.
local lc = require "lacuna"

local p = lc.params {
  model = "gpt2", text = "wikitext2", length = 256, reuse = 0.9, from = 0.25, steps = 400, batch = 4, lr = 5e-5,
  toy = { steps = 24, lr = 1e-3 },
}

--- Installs the reusing product on a layer; `reuse`, a schedule, gives the share of D that is dropped.
local function install(layer, reuse)
  local product = lc.func {
    forward = function(ctx, x, w, b, s)
      ctx:save(x, w)
      ctx.s, ctx.bias = s, b ~= nil
      return b and x:matmul(w:t()) + b or x:matmul(w:t())
    end,
    backward = function(ctx, g)
      local x, w = ctx:saved()
      local P, r = ctx.s.previous, reuse:at(ctx.s.progress)
      ctx.s.previous = g
      if r > 0 and P and table.concat(P.shape, " ") == table.concat(g.shape, " ") then
        local D = g - P
        g = P + D * D:abs():keep(D:numel() - math.floor(r * D:numel()), { scope = "all" })
      end
      local g2, x2 = g:reshape { -1, g.shape[g.ndim] }, x:reshape { -1, x.shape[x.ndim] }
      return g:matmul(w), g2:t():matmul(x2), ctx.bias and g2:sum(1) or nil
    end,
  }
  return layer:replace(product, { state = { "previous" }, name = "resprop" })
end
local run, model = lc.run { name = "resprop", params = p }, lc.load(p.model)
local train = lc.dataset { model = model, source = p.text .. "/train", length = p.length }
local reuse = lc.schedule { { 0.0, 0 }, { p.reuse, p.from } }
for _, layer in ipairs(model:linears()) do install(layer, reuse) end
for t in lc.steps(model, train, { steps = p.steps, batch = p.batch, lr = p.lr, run = run, save_every = 10 }) do
  run:log { step = t.step, loss = t.loss, reuse = reuse:at(t.progress) }
end
run:table { columns = { "step", "loss", "reuse" }, where = function(row) return row.step % 20 == 0 end }
return { install = install }
