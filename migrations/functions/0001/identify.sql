-- Reconciles a request and reads the identity that it led to: one round trip for who answers with all of it.
CREATE OR REPLACE FUNCTION identify(request_email text, request_phone text)
RETURNS TABLE (
    id bigint, email text, phone_number text, linked_id bigint, outcome text, primary_id bigint, contact_id bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation := reconcile(request_email, request_phone);
BEGIN
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id) AS member;
END $$;
