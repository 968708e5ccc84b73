-- One transaction of the shop's day. It is run again and again, each time with the next number for :n.
DO $$
DECLARE
    n      CONSTANT integer := :n;
    placed integer;
BEGIN
    IF n % 11 = 5 THEN
        UPDATE orders SET status = 'shipped'
        WHERE order_id IN (SELECT order_id FROM orders WHERE status = 'paid' ORDER BY order_id LIMIT 5);
    ELSIF n % 17 = 9 THEN
        UPDATE products SET stock = stock + 25 WHERE product_id % 9 = n % 9;
    ELSIF n % 13 = 7 AND to_regclass('customers') IS NOT NULL THEN
        INSERT INTO customers (name, email, city, joined_on)
        VALUES ('New Customer ' || n, 'new.customer' || n || '@example.com', 'Berlin', current_date);
    ELSE
        INSERT INTO orders (customer_id, ordered_at) VALUES (1 + n * 7919 % 1200, clock_timestamp())
        RETURNING order_id INTO placed;
        INSERT INTO order_items (order_id, product_id, quantity, price)
        SELECT placed, product_id, 1 + (n + product_id) % 3, price
        FROM products WHERE product_id IN (1 + n * 31 % 180, 1 + (n * 31 + 47) % 180);
        UPDATE products SET stock = stock - 1 WHERE product_id = 1 + n * 31 % 180;
    END IF;
END
$$;
