-- The deployment that the restore point before_deploy was made for.
ALTER TABLE orders ADD COLUMN coupon text;
CREATE INDEX orders_by_customer ON orders (customer_id);
